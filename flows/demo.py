"""`make demo`: the main job in two regimes of the embedded world, with times and where to look."""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from flows.context import git_commit
from flows.guard import guarded
from flows.servers import ensure
from tasks.workspace import project_root

# The default profile, in which fusion has something to give, and the counter-case.
REGIMES = ("embedded", "plentiful-truths")
NEXT = (
    (
        "python -m flows run pipeline -S 'methods=[sft,fusellm,inference_only,profuser,simul,reverse]'",
        "more presets; the rest is cached",
    ),
    ("python -m flows plan -S fusion.beta=0.2", "what one changed param would re-run"),
    ("make ui", "compare the runs in MLflow, watch the flows in Prefect"),
)


def main() -> None:
    """Run the demo; `--setup-seconds` is what the set-up took before."""
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=main.__doc__)
    parser.add_argument("--setup-seconds", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write docs/results/demo-times.json and demo-scores.json")
    given = parser.parse_args()
    seconds = given.setup_seconds
    out = Console()
    started = time.monotonic()
    ensure("prefect")
    server_s = time.monotonic() - started
    started = time.monotonic()
    run_halves_side_by_side()
    pipeline_s = time.monotonic() - started
    total = seconds + server_s + pipeline_s
    print_regimes(out)
    out.print(
        f"\nset-up {seconds} s · Prefect server {server_s:.0f} s · pipeline [bold]{pipeline_s:.0f} s[/] · in all {total:.0f} s"
    )
    if given.record:
        record({"set-up": seconds, "Prefect server": server_s, "pipeline": pipeline_s, "in all": total})
    out.print("\n[bold]Next[/] (in the virtual environment: . .venv/bin/activate)")
    for command, why in NEXT:
        out.print(f"  {command}\n      {why}", highlight=False, markup=False)


def run_halves_side_by_side() -> None:
    """Train in two lanes, each with half of the cores, then run the pipeline: it scores, compares and reports.

    Small models gain little from a second thread, so two processes of one thread are done sooner than one of two. The dialogue
    half is the longer one: its last variant goes behind the fusion halves.
    """
    from flows.params.file import load_params

    threads = f"runtime.threads={max(1, (os.cpu_count() or 1) // 2)}"
    finish(start("prepare", "-S", threads))
    *first, last = load_params(project_root(), profile="embedded").params.variants
    fusions = [("fusion", "--profile", profile) for profile in REGIMES]
    lanes = [Lane([*fusions, ("train_dialogue", "--variant", last)], threads)]
    if first:
        lanes.append(Lane([("train_dialogue", "-S", f"variants=[{', '.join(first)}]")], threads))
    with ThreadPoolExecutor() as pool:
        try:
            for done in as_completed([pool.submit(lane.run) for lane in lanes]):
                done.result()
        finally:
            for lane in lanes:  # the other one, where one has failed; what it has finished is kept
                lane.stop()
    if failed := subprocess.run(arguments("pipeline", "-S", threads), cwd=project_root(), check=False).returncode:
        raise SystemExit(failed)


class Lane:
    """Commands that run one after the other, in parallel with another lane."""

    def __init__(self, commands: Sequence[Sequence[str]], threads: str) -> None:
        """Keep what `python -m flows run` is to do; nothing starts yet."""
        self._commands, self._threads = commands, threads
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False
        self._guard = threading.Lock()

    def run(self) -> None:
        """Run them all.

        Raises:
            SystemExit: One failed.
        """
        for command in self._commands:
            with self._guard:
                if self._stopped:
                    return
                self._running = start(*command, "-S", self._threads)
            finish(self._running)

    def stop(self) -> None:
        """End the command that is running, and start no other."""
        with self._guard:
            self._stopped = True
            if self._running is not None:
                self._running.terminate()


def start(*given: str) -> subprocess.Popen[str]:
    """Start `python -m flows run …`."""
    return subprocess.Popen(
        arguments(*given), cwd=project_root(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Show which stages are done as they are done; where the process fails, all that it has said.

    Raises:
        SystemExit: It failed.
    """
    assert process.stdout is not None
    said = list[str]()
    for line in process.stdout:
        said.append(line)
        if line.startswith("✓"):
            sys.stdout.write(line)
            sys.stdout.flush()
    if failed := process.wait():
        sys.stdout.writelines(line for line in said if not line.startswith("✓"))
        raise SystemExit(failed)


def arguments(*given: str) -> list[str]:
    """Return `python -m flows run …`; of the embedded profile unless another is given."""
    profile = () if "--profile" in given else ("--profile", "embedded")
    return [sys.executable, "-m", "flows", "run", *given, *profile]


def print_regimes(out: Console) -> None:
    """Print the fusion half's results of all regimes in one table: when fusion wins, and when it does not."""
    from flows.context import StageContext
    from flows.summary import scored_rows
    from models.evaluation.fusion.scores import ACCURACY, BITS_PER_BYTE
    from models.reporting.fusion.grids import RegimeScores, regime_grid
    from models.reporting.grids import to_rich

    regimes = []
    for profile in REGIMES:
        ctx = StageContext.load(profile=profile)
        counts = ctx.input("prepare", "corpus").meta
        alone = counts.get("prompts_only", {}).get("train", 0)
        some = f"{counts['train'] - alone:,} ground truths" + (f", {alone:,} prompts without" if alone else "")
        regimes.append(RegimeScores(f"{profile}: {some}", *scored_rows(ctx)))
    out.print("\n[bold]When does fusion win?[/] The same sources and the same test; what differs is the data to train on.")
    for metric in (ACCURACY, BITS_PER_BYTE):
        out.print(to_rich(regime_grid(regimes, metric=metric)))


def record(times: dict[str, float]) -> None:
    """Write the demo's times and scores to docs/results/demo-*.json, and the tables of them in the documents."""
    from flows.context import StageContext
    from flows.results_files import renew_tables, rows_of
    from models.evaluation.fusion.scores import ACCURACY, ALL_FAMILIES, BITS_PER_BYTE
    from models.reporting.results import Result, ResultRow, write_result

    root = project_root()
    took = [ResultRow(name, round(value, 1), "s", more={"cores": os.cpu_count()}) for name, value in times.items()]
    scores = [
        replace(row, more={"regime": profile} | dict(row.more))
        for profile in REGIMES
        for row in rows_of(StageContext.load(profile=profile), "fusion")
        if row.more.get("family") == ALL_FAMILIES and row.more.get("metric") in (ACCURACY, BITS_PER_BYTE)
    ]
    commit, today = git_commit(root), datetime.now(UTC).date().isoformat()
    for name, rows in (("demo-times", took), ("demo-scores", scores)):
        write_result(root / "docs" / "results", Result(name, "make demo RECORD=--record", commit, today, tuple(rows)))
    renew_tables(root, write=True)


if __name__ == "__main__":
    guarded(main)
