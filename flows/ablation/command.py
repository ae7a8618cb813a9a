"""`python -m flows run ablation`: list or run a plan's runs, then show and write what there is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.ablation.plan_file import read_plan


def run_ablation(
    root: Path,
    plan: Path,
    out: Console,
    *,
    choice: Mapping[str, Sequence[Any]],
    execution: Sequence[str],
    dry_run: bool,
    keep: bool,
    partial: bool,
) -> bool:
    """Run a plan, or the part of it that `choice` (`regimes`, `seeds`, `arms`) names; return whether no run has failed.

    Args:
        root: Project folder.
        plan: Plan file.
        out: Terminal.
        choice: What to run; empty parts stand for all.
        execution: Overrides that decide no result.
        dry_run: List the runs only.
        keep: Keep weights and other outputs.
        partial: Write figures though runs are missing.

    Raises:
        ParamsError: The plan is not valid.
    """
    loaded = read_plan(root, plan, execution=execution)
    items = loaded.items(**choice)
    from flows.ablation.results import print_items, write_figures
    from flows.ablation.run import Progress, finished, run_items

    if dry_run:
        done = finished(loaded, items)
        print_items(loaded, Progress(done, left=[item for item in items if item not in done]), items, out)
        return True
    progress = run_items(loaded, items, keep=keep, out=out)
    # What other processes have finished in the meantime counts too.
    progress.done |= finished(loaded, [item for item in loaded.items() if item not in progress.done])
    write_figures(loaded, progress, items=items, partial=partial, out=out)
    return not progress.failed
