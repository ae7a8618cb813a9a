"""The flow `ablation`: every run of a plan is a flow run; finished ones are passed over, a failed one stops no other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow
from rich.console import Console
from rich.markup import escape

from flows.ablation.grid import chosen_values, known_choice
from flows.ablation.kept import (
    RUN_STAGES,
    Scores,
    claimed,
    drop_outputs,
    drop_shared,
    identity,
    read_scores,
    sharing,
    stages,
    write_scores,
)
from flows.ablation.plan_file import Item, LoadedPlan, candidates, read_plan, shown_value
from flows.context import SHARED_STAGES, StageContext, git_commit
from flows.parallel import task_runner
from flows.servers import start_ephemeral
from tasks.loaded_models import release_models
from tasks.tracking import finish_parent, parent_run
from tasks.workspace import project_root


@dataclass(slots=True)
class Progress:
    """What has become of the runs.

    Attributes:
        done: Run → its scores.
        failed: Run → why.
        busy: Runs that another process is at.
        left: Runs not yet begun, in order.
    """

    done: dict[Item, Scores] = field(default_factory=dict)
    failed: dict[Item, str] = field(default_factory=dict)
    busy: list[Item] = field(default_factory=list)
    left: list[Item] = field(default_factory=list)


def finished(loaded: LoadedPlan, items: Sequence[Item]) -> dict[Item, Scores]:
    """Return the runs whose scores are there, as the plan and the code are now."""
    found = {}
    for item in items:
        chosen = known_choice(loaded, item.regime, item.arm)
        if chosen is None:
            continue
        scores = read_scores(loaded, item, key=identity(loaded.context(item, chosen=chosen)))
        if scores is not None:
            found[item] = scores
    return found


def seconds_left(loaded: LoadedPlan, progress: Progress) -> float | None:
    """Estimate what is left by the median of the runs done, else as the plan says; None where neither is known."""
    times = sorted(scores.seconds for scores in progress.done.values())
    each = times[(len(times) - 1) // 2] if times else loaded.plan.seconds_per_run
    if each is None:
        return None
    arms = {(item.regime, item.arm) for item in progress.left}
    extra = sum(len(candidates(loaded.plan.grid_of(a))) - 1 for r, a in arms if known_choice(loaded, r, a) is None)
    return each * (len(progress.left) + extra)


def run_items(loaded: LoadedPlan, items: Sequence[Item], *, keep: bool, out: Console) -> Progress:
    """Run what is not finished, in a Prefect flow, and return what there is then.

    Args:
        loaded: The plan.
        items: Its runs, or some of them.
        keep: Whether weights and other outputs of the runs stay.
        out: Receives a line for each run.
    """
    done = finished(loaded, items)
    progress = Progress(done, left=[item for item in items if item not in done])
    if not progress.left:
        return progress

    @flow(name="ablation", flow_run_name=loaded.experiment)
    def body() -> None:
        while progress.left:
            item = progress.left.pop(0)
            with claimed(loaded.experiment, item.regime, item.seed, item.arm) as mine:
                if not mine:
                    progress.busy.append(item)
                elif there := finished(loaded, [item]):  # another process was faster
                    progress.done |= there
                else:
                    _one(loaded, item, progress, keep=keep)
            group = loaded.items(regimes=[item.regime], seeds=[item.seed])
            if not keep and len(finished(loaded, group)) == len(group):
                drop_shared(loaded, item)
            out.print(_line(loaded, item, progress, of=len(items)), highlight=False)

    start_ephemeral()
    body()
    return progress


def _one(loaded: LoadedPlan, item: Item, progress: Progress, *, keep: bool) -> None:
    """Run one item in a flow run of its own, and note how it ended."""
    runtime = loaded.context(item).params.runtime

    @flow(name="ablation-run", flow_run_name=item.label, task_runner=task_runner(runtime))
    def body() -> None:
        progress.done[item] = run_item(loaded, item, keep=keep)

    state: Any = body(return_state=True)
    if not state.is_completed():
        progress.failed[item] = str(state.result(raise_on_failure=False) or state.message).strip()


def run_item(loaded: LoadedPlan, item: Item, *, keep: bool) -> Scores:
    """Train and score one arm in one regime with one seed; keep its scores and record them in MLflow."""
    from flows.ablation.scores import final_scores

    chosen = chosen_values(loaded, item.regime, item.arm, train=run_stages, keep=keep)
    ctx = sharing(loaded.context(item, chosen=chosen))
    started = time.monotonic()
    run_stages(ctx)
    best, table = final_scores(ctx)
    scores = Scores(identity(ctx), round(time.monotonic() - started, 1), chosen, best, tuple(table))
    _track(loaded, item, ctx, scores)
    write_scores(loaded, item, scores)
    if not keep:
        drop_outputs(ctx)
    return scores


def run_stages(ctx: StageContext, *, until: str = "evaluate_fusion") -> None:
    """Run the stages of one run up to `until`, those that it shares only where no other run has done so."""
    with claimed(ctx.shared, wait=True):
        if not all(ctx.out(stage).is_dir() for stage in SHARED_STAGES):
            run_named(ctx, SHARED_STAGES)
    own = RUN_STAGES[len(SHARED_STAGES) : RUN_STAGES.index(until) + 1]
    run_named(ctx, own)


def run_named(ctx: StageContext, names: Sequence[str]) -> None:
    """Run some of the stages of one run, whatever is there; finished steps come from the cache."""
    for stage in stages(names):
        given: dict[str, Any] = {"halves": ("fusion",)} if len(stage.halves) > 1 else {}
        given |= {stage.item: ctx.params.methods[0]} if stage.matrix else {}
        try:
            stage.body()(ctx, **given)
        finally:
            release_models()


def _track(loaded: LoadedPlan, item: Item, ctx: StageContext, scores: Scores) -> None:
    """Record a run: its params, and `final/…` of its arm and of the models it is compared with."""
    from flows.ablation.scores import final_metrics

    record_run(loaded, item, ctx, key=scores.key, metrics={**final_metrics(scores), "seconds": scores.seconds})


def record_run(loaded: LoadedPlan, item: Item, ctx: StageContext, *, key: str, metrics: Mapping[str, float]) -> None:
    """Record a run and its figures in the ablation's experiment."""
    tracking = ctx.params.tracking
    named = {"regime": item.regime, "arm": item.arm, "seed": item.seed}
    run_id = parent_run(
        tracking,
        experiment=loaded.experiment,
        name=item.label,
        key=f"{key[:24]}-{item.regime}-{item.arm}-{item.seed}",
        params={**named, **ctx.params.model_dump(mode="json", exclude={"runtime", "tracking", "planning"})},
        tags={"git.commit": git_commit(ctx.root), "fusedial.plan": loaded.file, "fusedial.stages": ctx.parent()},
        note=f"{item.label} of the ablation `{loaded.plan.name}` ({loaded.file}).",
    )
    finish_parent(run_id, tracking=tracking, metrics=metrics)


def _line(loaded: LoadedPlan, item: Item, progress: Progress, *, of: int) -> str:
    """Say how a run ended and what is left."""
    from flows.ablation.scores import arm_value

    place = f"[{of - len(progress.left)}/{of}] {item.label}:".replace("[", r"\[", 1)
    if item in progress.busy:
        return f"{place} another process is at it"
    if item in progress.failed:
        return f"{place} [red]failed[/]: {escape(progress.failed[item].splitlines()[0])}"
    scores = progress.done[item]
    said = [f"accuracy {100 * value:.1f} %" for value in [arm_value(scores, "accuracy")] if value is not None]
    said += [f"{key} {shown_value(value)}" for key, value in scores.chosen.items()]
    return f"{place} {', '.join([*said, f'{scores.seconds:.0f} s'])}; {left_line(loaded, progress)}"


def left_line(loaded: LoadedPlan, progress: Progress) -> str:
    """Say how many runs are left, and how long they take."""
    seconds = seconds_left(loaded, progress)
    time_left = "" if seconds is None or not progress.left else f", about {duration(seconds)}"
    return f"{len(progress.left)} left{time_left}"


def duration(seconds: float) -> str:
    """Return a time as `4 h 10 min`, `12 min` or `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


@flow(name="ablation")
def ablation(plan: str, overrides: list[str] | None = None) -> None:
    """Run all of a plan and write its figures (deployment entry)."""
    from flows.ablation.results import write_figures

    out = Console()
    loaded = read_plan(project_root(), Path(plan), execution=overrides or ())
    items = loaded.items()
    progress = run_items(loaded, items, keep=False, out=out)
    write_figures(loaded, progress, items=items, partial=False, out=out)
