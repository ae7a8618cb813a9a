"""The systems the fusion half scores, the names of their runs and folders, and the shards of a corpus (the unit of resume)."""

from collections.abc import Mapping
from typing import Any

from flows.context import StageContext

SystemKey = dict[str, str | None]


def run_name(ctx: StageContext, method: str, target: str) -> str:
    """Return the name of the method's run; the target is named where there are several."""
    return f"fuse-{method}" if len(ctx.params.fusion.targets) == 1 else f"fuse-{method}-{target}"


def systems_of(ctx: StageContext) -> list[SystemKey]:
    """Return {name, kind, target} of everything that is scored: sources, untrained targets, methods on each target."""
    targets = ctx.params.fusion.targets
    systems: list[SystemKey] = [{"name": s.name, "kind": "source", "target": None} for s in ctx.params.sources.models]
    systems += [{"name": t, "kind": "untrained", "target": t} for t in targets]
    systems += [{"name": m, "kind": "method", "target": t} for t in targets for m in ctx.params.methods]
    return systems


def place_of(system: Mapping[str, str | None]) -> str:
    """Return the folder name of a system's rows."""
    return f"{system['kind']}-{system['name']}" + (f"-{system['target']}" if system["kind"] == "method" else "")


def label(ctx: StageContext, row: Mapping[str, Any]) -> str:
    """Return what a system is called in tables of this profile."""
    several = len(ctx.params.fusion.targets) > 1
    return f"{row['system']}-{row['target']}" if row["kind"] == "method" and several else str(row["system"])


Shards = list[tuple[int, int]]


def shards_of(total: int, size: int) -> Shards:
    """Return (start, stop) of every shard."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def shard_name(index: int) -> str:
    """Return the folder name of a shard."""
    return f"shard-{index:05d}"
