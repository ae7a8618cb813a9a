"""`python -m benchmarks [--peer FOLDER] [NAME …]`: run the measurements and write docs/results/speed.json.

Every module here with a function `measure() -> list[ResultRow]` is one; it checks that both sides give the same result. Each
runs in a process of its own, so that none finds memory that another has touched. Rows of those that were not named stay.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peer import set_peer_folder
from flows.context import git_commit
from flows.results_files import renew_tables
from models.reporting.results import Result, ResultRow, read_result, write_result

NAMES = (
    "alignment", "vocabulary_map", "store", "collate", "loss", "capture", "generation", "mml", "kv_branches", "index", "refresh",
    "scale", "pipeline", "stage_memory", "cpu_memory", "plan",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure beside the peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones, of {', '.join(NAMES)}; all without any")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="checkout of github.com/fanqiwan/FuseAI to measure beside")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="measure the one NAME here and write its rows to FILE only")
    given = parser.parse_args(argv)
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"NAME must be one of {', '.join(NAMES)}, but is {', '.join(unknown)}")
    if given.peer:
        set_peer_folder(given.peer)
    if given.rows:
        measured = importlib.import_module(f"benchmarks.{given.names[0]}").measure()
        given.rows.write_text(json.dumps([row.to_json() for row in measured]), encoding="utf-8")
        return
    for name in given.names or NAMES:
        _keep(name, _measure(name, peer=given.peer))
    renew_tables(ROOT, write=True)


def _measure(name: str, *, peer: Path | None) -> list[ResultRow]:
    """Measure in a fresh process; its messages go to the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        words = ["--peer", str(peer)] if peer else []
        subprocess.run([sys.executable, "-m", "benchmarks", name, "--rows", str(rows), *words], check=True, cwd=ROOT)
        return [ResultRow.from_json(row) for row in json.loads(rows.read_text(encoding="utf-8"))]


def _keep(name: str, rows: list[ResultRow]) -> None:
    """Put the rows in the place of the benchmark's former ones, and renew the tables that show them."""
    folder, commit, today = ROOT / "docs" / "results", git_commit(ROOT), datetime.now(UTC).date().isoformat()
    path = folder / "speed.json"
    kept = {n: [row for row in read_result(path).rows if row.more.get("benchmark") == n] for n in NAMES} if path.exists() else {}
    known = {"benchmark": name, "measured": f"{today} {commit}"}
    kept[name] = [ResultRow(r.name, r.value, r.unit, low=r.low, high=r.high, num=r.num, more={**known, **r.more}) for r in rows]
    for row in rows:
        print(f"{row.name:66s} {row.value:14.3f} {row.unit}")
    ordered = tuple(row for n in NAMES for row in kept.get(n, []))
    write_result(folder, Result("speed", "make bench", commit, today, ordered))


if __name__ == "__main__":
    main()
