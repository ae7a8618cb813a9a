"""`plan` against what stages took when they were last made here (`.cache/stages`): disk, memory, time.

It runs nothing: profiles without records are named with the command that makes them, and stages made with other params are left
out. For the memory of a stage, run it in a process of its own (`dvc repro`, or `python -m flows run STAGE`): in a process that
has run others before, what those left behind counts as well. Time is that of the wall, or CPU time where that is less: other
processes on the machine are no fault of the estimate.
"""

from collections.abc import Iterator

from flows.cli import root as prepare_environment
from flows.context import StageContext
from flows.plan.plan import estimates, on_cpu, planned_seconds
from flows.stage_record import changes, took
from flows.stages import STAGES, Stage
from models.planning.stage_estimate import StageEstimate
from models.reporting.results import ResultRow, Scalar

# A stage that stores only its record (sources used where they lie) has nothing to compare.
_SMALLEST = 10_000
PROFILES = ("embedded", "real-skills")


def measure() -> list[ResultRow]:
    prepare_environment()
    rows: list[ResultRow] = []
    for profile in PROFILES:
        ctx = StageContext.load(profile=profile)
        found = [row for stage in STAGES for row in rows_of(ctx, stage)]
        if not found:
            print(f"plan: {profile} skipped, no stage of it has been measured here (python -m flows run --profile {profile})")
        rows += found
    return rows


def rows_of(ctx: StageContext, stage: Stage) -> Iterator[ResultRow]:
    """Yield estimated / measured of a stage, all entries of its matrix together."""
    items = getattr(ctx.params, stage.matrix) if stage.matrix else ("",)
    costs = [cost for item in items if (cost := took(ctx, stage, item=item))]
    if other := [c.what for item in items for c in changes(ctx, stage, item=item) if c.kind == "param"]:
        print(f"plan: {ctx.params.profile} {stage.name} skipped, it was made with another {', '.join(other)}")
        return
    planned = [e for half in stage.halves for e in estimates(ctx, half) if belongs(e, stage)]
    if len(costs) < len(items) or not planned:
        return
    seconds = sum(planned_seconds(e, runtime=ctx.params.runtime, planning=ctx.params.planning) for e in planned)
    shared = on_cpu(ctx.params.runtime.device)
    memory = max(e.host_bytes + (e.device_bytes if shared else 0) for e in planned)
    kept = sum(e.disk_bytes - e.resume_bytes for e in planned)
    name = f"plan, {ctx.params.profile}, {stage.name}"
    yield row(f"{name}: time", seconds, sum(c.undisturbed_seconds for c in costs), "s", "within a factor of 2")
    yield row(f"{name}: memory", memory / 1e6, max(c.peak_bytes for c in costs) / 1e6, "MB", "within 30 %")
    if (stored := sum(c.stored_bytes for c in costs)) >= _SMALLEST:
        yield row(f"{name}: disk", kept / 1e6, stored / 1e6, "MB", "within 30 %")


def row(name: str, estimated: float, measured: float, unit: str, target: str) -> ResultRow:
    more: dict[str, Scalar] = {f"estimated_{unit}": estimated, f"measured_{unit}": measured, "target": target}
    return ResultRow(name, estimated / measured, "ratio", more=more)


def belongs(estimate: StageEstimate, stage: Stage) -> bool:
    """Say whether an estimate is of a stage: `fuse`, `train_dialogue@none`, `prepare: dialogues`."""
    return estimate.stage.partition(":")[0].partition("@")[0] == stage.name
