"""How a stage runs in Prefect: in a flow run of its own, with name, tags, log lines, a deadline and a failure hook.

The command line, a deployment and a larger flow all call the same flows; `deployable` makes them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, cast

from prefect import Flow, flow, get_run_logger, tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TagsContext
from prefect.flows import FlowStateHook
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.utilities.timeout import timeout
from rich.console import Console

from flows.context import StageContext, git_commit
from flows.failure_hook import report_failure
from flows.parallel import engine
from flows.stage_record import CostMeter, StageCost, write_record
from flows.stages import HALVES, STAGES, Half, Stage
from models.errors import FusedialError
from tasks.loaded_models import release_models
from tasks.step_runs import steps_run
from tasks.tracking import runs_ended

P = ParamSpec("P")
_CONTEXT: ContextVar[StageContext | None] = ContextVar("context", default=None)


def deployable(body: Callable[P, None]) -> Flow[P, None]:
    """Make a flow that a deployment, the command line or a larger flow can run; it has the name of its function.

    Its function takes `profile` and `overrides`, and may take `method`, `variant` or `halves`.
    """
    hooks: list[FlowStateHook[..., Any]] = [report_failure]
    return flow(name=body.__name__, flow_run_name=_run_name, on_failure=hooks, on_crashed=hooks)(body)


def _run_name() -> str:
    """Name a flow run by what it is about: `pipeline-smoke`, `fuse@profuser-smoke`."""
    given = flow_run.parameters
    item = given.get("method") or given.get("variant")
    name = f"{flow_run.flow_name}@{item}" if item else str(flow_run.flow_name)
    return f"{name}-{given['profile']}" if given.get("profile") else name


def tags_of(ctx: StageContext) -> set[str]:
    """Return the tags of a flow run: which profile, which commit."""
    return {f"profile:{ctx.params.profile}", f"commit:{git_commit(ctx.root)}"}


@contextmanager
def flow_context(profile: str | None, overrides: Sequence[str] | None) -> Iterator[StageContext]:
    """Yield the context of the present flow run: that of the flow it is part of, else of these params.

    Tasks do not inherit the tags of their flow run: Prefect would ask its server for a concurrency limit of every tag.
    """
    given = _CONTEXT.get()
    if given is None or (given.params.profile, given.overrides) != (profile, tuple(overrides or ())):
        given = StageContext.load(profile=profile, overrides=overrides or ())
    token = _CONTEXT.set(given)
    run = flow_run_context()
    outermost = run is None or run.parent_task_run_id is None
    try:
        _complete_tags(given)
        with _outermost() if outermost else nullcontext(), engine(given.params.runtime), TagsContext(current_tags=set()):
            yield given
    finally:
        _CONTEXT.reset(token)


@contextmanager
def _outermost() -> Iterator[None]:
    """End the MLflow runs with the flow run that no other is around; its heartbeats do for those below it.

    Each flow run that sends heartbeats waits up to a second at its end, until the thread that sends them has ended.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), runs_ended():
        yield


@contextmanager
def given_context(ctx: StageContext) -> Iterator[None]:
    """Let the flows that are called inside take this context, instead of reading the params once more."""
    token = _CONTEXT.set(ctx)
    try:
        with tags(*tags_of(ctx)):
            yield
    finally:
        _CONTEXT.reset(token)


def _complete_tags(ctx: StageContext) -> None:
    """Give the run of a deployment the tags that the command line and larger flows pass on."""
    context, run = FlowRunContext.get(), flow_run_context()
    if context is not None and run is not None and (missing := tags_of(ctx) - set(run.tags)):
        cast(SyncPrefectClient, context.client).update_flow_run(run.id, tags=[*run.tags, *sorted(missing)])


def flow_run_context() -> FlowRun | None:
    """Return the flow run that this code is part of."""
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None


def call_stage(ctx: StageContext, stage: Stage, *, item: str = "", halves: tuple[Half, ...] = HALVES) -> None:
    """Run a stage, or one item of its matrix, in a flow run of its own."""
    given: dict[str, object] = {"profile": ctx.params.profile, "overrides": list(ctx.overrides)}
    if item:
        given[stage.item] = item
    elif len(stage.halves) > 1:
        given["halves"] = list(halves)
    with given_context(ctx):
        stage.flow()(**given)


def run_stage(
    name: str,
    *,
    profile: str | None,
    overrides: Sequence[str] | None,
    item: str | None = None,
    halves: Sequence[Half] | None = None,
) -> None:
    """Be the body of a stage's flow: do the work in the present flow run; several items of a matrix have one each.

    Args:
        name: Stage.
        profile: Profile; None = that of params.yaml.
        overrides: As `-S` takes them.
        item: Method or variant; None = all of the params.
        halves: For a stage of both halves: whose work is done; None = both.
    """
    stage = next(s for s in STAGES if s.name == name)
    with flow_context(profile, overrides) as ctx:
        items = (item,) if item else tuple(getattr(ctx.params, stage.matrix)) if stage.matrix else ("",)
        if len(items) == 1:
            _work(ctx, stage, item=items[0], halves=tuple(halves or HALVES))
            return
        for one in items:
            call_stage(ctx, stage, item=one)


def _work(ctx: StageContext, stage: Stage, *, item: str, halves: tuple[Half, ...]) -> None:
    """Run the stage's body and record what it was made from."""
    runtime, label = ctx.params.runtime, f"{stage.name}@{item}" if item else stage.name
    meter, before = CostMeter(alone=runtime.workers == 1 == runtime.nproc and not runtime.endpoints), steps_run()
    given = {stage.item: item} if stage.matrix else {"halves": halves} if len(stage.halves) > 1 else {}
    try:
        with deadline(runtime.stage_timeout_s, label):
            stage.body()(ctx, **given)
    finally:
        release_models()  # the next stage trains or loads what it needs itself
    cost, ran = meter.read(), steps_run() - before
    if len(stage.halves) == 1 or halves == HALVES:
        write_record(ctx, stage, item=item, cost=cost)
    if len(stage.halves) > 1:
        for half in halves:
            write_record(ctx, stage, item=half)
    _announce(ctx, label, cost, ran)


def _announce(ctx: StageContext, label: str, cost: StageCost, ran: int) -> None:
    """Say on the terminal and in the log of the flow run that a stage is done."""
    cached = "" if ran else "  (cached)"
    Console().print(f"[green]✓[/] {label:24s} {cost.seconds:6.1f} s{cached}", highlight=False)
    how = f"{ran} steps ran, the others came from the cache" if ran else "every step came from the cache"
    place = ctx.out(*label.split("@")).relative_to(ctx.root)
    get_run_logger().info("%s is done in %.1f s: %s. Outputs: %s", label, cost.seconds, how, place)


class StageTimeout(FusedialError, TimeoutError):
    """A stage has taken longer than `runtime.stage_timeout_s`."""


@contextmanager
def deadline(seconds: float, label: str) -> Iterator[None]:
    """End what runs inside after `seconds`; 0 = never.

    Raises:
        StageTimeout: They have passed.
    """
    try:
        with timeout(seconds or None, timeout_exc_type=StageTimeout):
            yield
    except StageTimeout as error:
        raise StageTimeout(
            f"`{label}` must end within `runtime.stage_timeout_s` = {seconds:g} s, but was still running. Finished shards and "
            "checkpoints are kept: the same command continues; raise the limit if it needs longer."
        ) from error
