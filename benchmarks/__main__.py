"""`python -m benchmarks [--peer FOLDER] [NAME …]`: run the measurements and write docs/results/speed.json.

Every module here with a function `measure() -> list[ResultRow]` is one; it checks that both sides give the same result.
"""

import argparse
import importlib
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peer import set_peer_folder
from flows.context import git_commit
from models.reporting.results import Result, ResultRow, write_result

NAMES = ("loss", "alignment", "vocabulary_map", "store", "collate", "mml", "index")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure beside the peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones, of {', '.join(NAMES)}; all without any")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="checkout of github.com/fanqiwan/FuseAI to measure beside")
    given = parser.parse_args(argv)
    if given.peer:
        set_peer_folder(given.peer)
    root = Path(__file__).resolve().parent.parent
    rows: list[ResultRow] = []
    for name in given.names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").measure():
            print(f"{row.name:58s} {row.value:12.3f} {row.unit}")
            rows.append(row)
    today = datetime.now(UTC).date().isoformat()
    write_result(root / "docs" / "results", Result("speed", "make bench", git_commit(root), today, tuple(rows)))


if __name__ == "__main__":
    main()
