"""`make demo`: the main job on the embedded default, with times and where to look."""

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

from rich.console import Console

from flows.context import git_commit
from flows.servers import ensure
from tasks.workspace import project_root

NEXT = (
    ("python -m flows run pipeline -S 'methods=[sft,fusellm,profuser,simul,reverse]'", "more presets; the rest is cached"),
    ("python -m flows plan -S fusion.beta=0.2", "what one changed param would re-run"),
    ("make ui", "compare the runs in MLflow, watch the flows in Prefect"),
)


def main() -> None:
    """Run the demo; `--setup-seconds` is what the set-up took before."""
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=main.__doc__)
    parser.add_argument("--setup-seconds", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write docs/results/demo-times.json")
    given = parser.parse_args()
    seconds = given.setup_seconds
    out = Console()
    started = time.monotonic()
    ensure("prefect")
    server_s = time.monotonic() - started
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "flows", "run", "pipeline", "--profile", "embedded"], check=True, cwd=project_root())
    pipeline_s = time.monotonic() - started
    total = seconds + server_s + pipeline_s
    out.print(
        f"\nset-up {seconds} s · Prefect server {server_s:.0f} s · pipeline [bold]{pipeline_s:.0f} s[/] · in all {total:.0f} s"
    )
    if given.record:
        record({"set-up": seconds, "Prefect server": server_s, "pipeline": pipeline_s, "in all": total})
    out.print("\n[bold]Next[/] (in the virtual environment: . .venv/bin/activate)")
    for command, why in NEXT:
        out.print(f"  {command}\n      {why}", highlight=False, markup=False)


def record(times: dict[str, float]) -> None:
    """Write the demo's times to docs/results/demo-times.json."""
    from models.reporting.results import Result, ResultRow, write_result

    root = project_root()
    rows = tuple(ResultRow(name, round(value, 1), "s", more={"cores": os.cpu_count()}) for name, value in times.items())
    today = datetime.now(UTC).date().isoformat()
    write_result(root / "docs" / "results", Result("demo-times", "make demo RECORD=--record", git_commit(root), today, rows))


if __name__ == "__main__":
    main()
