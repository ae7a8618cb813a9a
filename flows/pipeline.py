"""The whole pipeline, or one of its halves: every stage in a flow run of its own, one after another."""

from collections.abc import Sequence

from flows.context import StageContext
from flows.flow_page import publish_results
from flows.flow_runs import call_stage, deployable, flow_context, given_context
from flows.servers import start_ephemeral
from flows.stages import HALVES, STAGES, Half


def run_halves(profile: str | None, overrides: Sequence[str] | None, halves: tuple[Half, ...]) -> None:
    """Be the body of a composite flow: run every stage of the halves, then show the results with the flow run."""
    with flow_context(profile, overrides) as ctx:
        for half in halves:
            ctx.parent(half)  # what comes from the cache is linked there
        for stage in STAGES:
            if set(stage.halves) & set(halves):
                for item in getattr(ctx.params, stage.matrix) if stage.matrix else ("",):
                    call_stage(ctx, stage, item=item, halves=halves)
        publish_results(ctx, halves)


def run_in_flow(ctx: StageContext, name: str, *, items: tuple[str, ...] = ()) -> None:
    """Run `pipeline`, `fusion`, `dialogue` or one stage from the command line, in the flow that a deployment runs."""
    start_ephemeral()
    composite = {flow.name: flow for flow in (pipeline, fusion, dialogue)}.get(name)
    if composite is not None:
        with given_context(ctx):
            composite(profile=ctx.params.profile, overrides=list(ctx.overrides))
        return
    stage = next(s for s in STAGES if s.name == name)
    for item in items or ("",):
        call_stage(ctx, stage, item=item)


@deployable
def pipeline(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the whole pipeline of a profile."""
    run_halves(profile, overrides, HALVES)


@deployable
def fusion(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the fusion half of a profile."""
    run_halves(profile, overrides, ("fusion",))


@deployable
def dialogue(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Run the dialogue half of a profile."""
    run_halves(profile, overrides, ("dialogue",))
