"""The whole pipeline, or one of its halves, in one flow run: the bodies of the stages, one after another."""

from collections.abc import Callable, Sequence

from prefect import flow

from flows.context import StageContext
from flows.parallel import task_runner
from flows.servers import start_ephemeral
from flows.stage_record import CostMeter, write_record
from flows.stages import HALVES, STAGES, Half, Stage
from tasks.loaded_models import release_models

Announce = Callable[[str, float], None]
# Composite flows: name → the halves they run.
COMPOSITES: dict[str, tuple[Half, ...]] = {"pipeline": HALVES, "fusion": ("fusion",), "dialogue": ("dialogue",)}


def run_stage(
    ctx: StageContext,
    stage: Stage,
    *,
    items: Sequence[str] = (),
    halves: tuple[Half, ...] = HALVES,
    announce: Announce | None = None,
) -> None:
    """Run a stage's body, once per entry of its matrix, and record what it was made from.

    A stage of both halves (`prepare`, `report`) does the work of `halves` only.
    """
    for item in items or (getattr(ctx.params, stage.matrix) if stage.matrix else ("",)):
        runtime = ctx.params.runtime
        meter = CostMeter(alone=runtime.workers == 1 == runtime.nproc and not runtime.endpoints)
        given = {stage.item: item} if stage.matrix else {"halves": halves} if len(stage.halves) > 1 else {}
        try:
            stage.body()(ctx, **given)
        finally:
            release_models()  # the next stage trains or loads what it needs itself
        cost = meter.read()
        if len(stage.halves) == 1 or halves == HALVES:
            write_record(ctx, stage, item=item, cost=cost)
        if len(stage.halves) > 1:
            for half in halves:
                write_record(ctx, stage, item=half)
        if announce is not None:
            announce(f"{stage.name}@{item}" if item else stage.name, cost.seconds)


def run_halves(ctx: StageContext, halves: tuple[Half, ...] = HALVES, *, announce: Announce | None = None) -> None:
    """Run every stage of the halves; finished work is served from the cache."""
    for stage in STAGES:
        if set(stage.halves) & set(halves):
            run_stage(ctx, stage, halves=halves, announce=announce)


def run_in_flow(ctx: StageContext, name: str, *, items: tuple[str, ...] = (), announce: Announce | None = None) -> None:
    """Run `pipeline`, `fusion`, `dialogue` or one stage inside a Prefect flow run with the engine the params ask for."""

    @flow(name=name, flow_run_name=f"{name}-{ctx.params.profile}", task_runner=task_runner(ctx.params.runtime))
    def body() -> None:
        if name in COMPOSITES:
            run_halves(ctx, COMPOSITES[name], announce=announce)
        else:
            run_stage(ctx, next(s for s in STAGES if s.name == name), items=items, announce=announce)

    start_ephemeral()
    body()


@flow(name="pipeline")
def pipeline(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the whole pipeline of a profile (deployment entry)."""
    run_halves(StageContext.load(profile=profile, overrides=overrides or ()))


@flow(name="fusion")
def fusion(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the fusion half of a profile (deployment entry)."""
    run_halves(StageContext.load(profile=profile, overrides=overrides or ()), ("fusion",))


@flow(name="dialogue")
def dialogue(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the dialogue half of a profile (deployment entry)."""
    run_halves(StageContext.load(profile=profile, overrides=overrides or ()), ("dialogue",))
