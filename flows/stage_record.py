"""What a stage was last made from, and what has changed since: the answer of `plan`.

The record decides nothing (the cache does); it only explains. It lies in .cache/stages/<profile>/<stage>.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.context import StageContext
from flows.stage_cost import StageCost
from flows.stages import Stage
from tasks.artifact import MANIFEST, file_digest
from tasks.code_closure import module_digest
from tasks.tracking_params import flatten

_HARMED = ("edited", "missing")  # stands for a file that is not what its manifest says


@dataclass(frozen=True, slots=True)
class Change:
    """One reason to run a stage again: `kind` is param, input, code, output or new."""

    kind: str
    what: str
    before: str = ""
    now: str = ""

    def __str__(self) -> str:
        values = f": {self.before} → {self.now}" if self.before or self.now else ""
        return f"{self.kind} {self.what}{values}"


def record_path(ctx: StageContext, stage: Stage, *, item: str = "") -> Path:
    """Return where the record of a stage lies."""
    name = f"{stage.name}@{item}" if item else stage.name
    return ctx.root / ".cache" / "stages" / ctx.params.profile / f"{name}.json"


def snapshot(ctx: StageContext, stage: Stage, *, item: str = "") -> dict[str, dict[str, Any]]:
    """Return params, inputs, code and outputs of a stage as they are now."""
    params = ctx.params.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for section in stage.sections:
        value: Any = params
        for part in section.split("."):
            value = value[part]
        chosen |= flatten(
            {section: value} if not isinstance(value, dict) else value, "" if not isinstance(value, dict) else f"{section}."
        )
    return {
        "params": chosen,
        "inputs": _inputs(ctx, stage),
        "code": {name: module_digest(name) for name in stage.code()},
        "outputs": _manifests(ctx.out(stage.name, *([item] if item else []))),
    }


def write_record(ctx: StageContext, stage: Stage, *, item: str = "", cost: StageCost | None = None) -> None:
    """Keep the present snapshot as what the stage was made from, with what making it took.

    A stage that was served from the cache keeps the figures of the run that did the work.
    """
    path = record_path(ctx, stage, item=item)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = snapshot(ctx, stage, item=item)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if before.get("outputs") == now["outputs"] and (cost is None or not cost.stored_bytes):
        took = before.get("took")
    else:
        took = None if cost is None else cost.to_json()
    path.write_text(json.dumps(now | {"took": took}, indent=1), encoding="utf-8")


def took(ctx: StageContext, stage: Stage, *, item: str = "") -> StageCost | None:
    """Return what the stage took when it was last made; None where nobody measured."""
    path = record_path(ctx, stage, item=item)
    found = json.loads(path.read_text(encoding="utf-8")).get("took") if path.is_file() else None
    return StageCost(**found) if found else None


def changes(ctx: StageContext, stage: Stage, *, item: str = "") -> list[Change]:
    """Return why the stage would run; empty = it is up to date."""
    path = record_path(ctx, stage, item=item)
    if not path.is_file():
        return [Change("new", "it has not run with this profile yet")]
    before = json.loads(path.read_text(encoding="utf-8"))
    now = snapshot(ctx, stage, item=item)
    found: list[Change] = []
    for kind, singular in (("params", "param"), ("inputs", "input"), ("code", "code"), ("outputs", "output")):
        for key in sorted(before[kind].keys() | now[kind].keys()):
            old, new = before[kind].get(key), now[kind].get(key)
            if old != new:
                found.append(_change(singular, key, old, new))
    return found


def _change(kind: str, key: str, old: object, new: object) -> Change:
    if kind == "param":
        return Change(kind, f"`{key}`", str(old), str(new))
    if new in _HARMED:
        state = str(new)
    else:
        state = "edited" if old is not None and new is not None else ("missing" if new is None else "new")
    return Change(kind, f"{key} ({state})")


def _inputs(ctx: StageContext, stage: Stage) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in stage.inputs:
        found |= {f"{name}/{k}": v for k, v in _manifests(ctx.out(*name.split("/"))).items()}
    if stage.name == "prepare":
        files = [ctx.root / s.path for s in ctx.params.corpus.sets]
        if ctx.params.dialogues.path:
            files += sorted((ctx.root / ctx.params.dialogues.path).rglob("*"))
        found |= {str(f.relative_to(ctx.root)): file_digest(f) for f in files if f.is_file()}
    return found


def _manifests(folder: Path) -> dict[str, str]:
    """Digest every manifest below a folder, and notice files that are gone or have another size."""
    found: dict[str, str] = {}
    for manifest in sorted(folder.rglob(MANIFEST)):
        name = manifest.parent.relative_to(folder).as_posix()
        found[name] = file_digest(manifest)
        for file in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
            path = manifest.parent / file["path"]
            if not path.is_file():
                found[f"{name}/{file['path']}"] = "missing"
            elif file_digest(path) != file["sha256"]:
                found[f"{name}/{file['path']}"] = "edited"
    return found
