"""The whole pipeline in one flow run: the bodies of all stages, one after another."""

import time
from collections.abc import Callable

from prefect import flow

from flows.context import StageContext
from flows.parallel import task_runner
from flows.stage_record import write_record
from flows.stages import STAGES, Stage

Announce = Callable[[str, float], None]


def run_stage(ctx: StageContext, stage: Stage, *, methods: tuple[str, ...] = (), announce: Announce | None = None) -> None:
    """Run a stage's body, once per method where it has a matrix, and record what it was made from."""
    for method in methods or (ctx.params.methods if stage.matrix else ("",)):
        started = time.monotonic()
        stage.body()(ctx, **({"method": method} if stage.matrix else {}))
        write_record(ctx, stage, method=method)
        if announce is not None:
            announce(f"{stage.name}@{method}" if method else stage.name, time.monotonic() - started)


def run_pipeline(ctx: StageContext, *, announce: Announce | None = None) -> None:
    """Run every stage; finished work is served from the cache."""
    for stage in STAGES:
        run_stage(ctx, stage, announce=announce)


def run_in_flow(ctx: StageContext, name: str, *, methods: tuple[str, ...] = (), announce: Announce | None = None) -> None:
    """Run `pipeline` or one stage inside a Prefect flow run with the engine the params ask for."""

    @flow(name=name, flow_run_name=f"{name}-{ctx.params.profile}", task_runner=task_runner(ctx.params.runtime))
    def body() -> None:
        if name == "pipeline":
            run_pipeline(ctx, announce=announce)
        else:
            run_stage(ctx, next(s for s in STAGES if s.name == name), methods=methods, announce=announce)

    body()


@flow(name="pipeline")
def pipeline(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the whole pipeline of a profile (deployment entry)."""
    run_pipeline(StageContext.load(profile=profile, overrides=overrides or ()))
