"""`make demo`: the main job on the embedded default, with times and where to look."""

import argparse
import subprocess
import sys
import time

from rich.console import Console

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
    seconds = parser.parse_args().setup_seconds
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
    out.print("\n[bold]Next[/] (in the virtual environment: . .venv/bin/activate)")
    for command, why in NEXT:
        out.print(f"  {command}\n      [dim]{why}[/]", highlight=False)


if __name__ == "__main__":
    main()
