"""`python -m benchmarks [NAME …]`: run the measurements and write docs/results/speed.json.

Every module here with a function `measure() -> list[ResultRow]` is one; it checks that both sides give the same result.
"""

import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from flows.context import git_commit
from models.reporting.results import Result, ResultRow, write_result

NAMES = ("loss", "alignment", "store", "mml", "index")


def main(names: list[str]) -> None:
    root = Path(__file__).resolve().parent.parent
    rows: list[ResultRow] = []
    for name in names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").measure():
            print(f"{row.name:58s} {row.value:12.3f} {row.unit}")
            rows.append(row)
    today = datetime.now(UTC).date().isoformat()
    write_result(root / "docs" / "results", Result("speed", "make bench", git_commit(root), today, tuple(rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
