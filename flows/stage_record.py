"""Record of a stage's last run: inputs, cost, and what has changed since, for `plan`."""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flows.context import StageContext
from flows.stages import Stage
from models.errors import ArtifactError
from models.files import read_record, write_atomic
from models.redaction import redacted
from tasks.artifact import file_digest, published_bytes
from tasks.manifest import MANIFEST, parse_manifest, read_manifest, unlisted
from tasks.tracking_log import flatten

_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of all threads of the process; 0 = unknown, or other processes worked for it.
        peak_bytes: High-water mark of the process.
        stored_bytes: Artifacts that this process put into the store.
    """

    seconds: float
    peak_bytes: int
    stored_bytes: int
    cpu_seconds: float = 0.0

    @property
    def undisturbed_seconds(self) -> float:
        """Seconds without what other processes took of the machine: CPU time, where it is less than the wall's."""
        return min(self.seconds, self.cpu_seconds or self.seconds)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class CostMeter:
    """Measures from its making on."""

    def __init__(self, *, alone: bool) -> None:
        """Begin; the high-water mark is set back where the system lets us, else it is that of the whole process.

        Args:
            alone: Whether this process does all the work: no workers, no other processes, no server.
        """
        self._started, self._cpu, self._stored = time.monotonic(), time.process_time(), published_bytes()
        self._alone = alone
        try:
            (_PROC / "clear_refs").write_text("5")
        except OSError:
            pass  # not Linux, or not allowed

    def read(self) -> StageCost:
        """Return what was taken until now."""
        seconds, cpu = time.monotonic() - self._started, time.process_time() - self._cpu
        return StageCost(seconds, _peak_bytes(), published_bytes() - self._stored, cpu if self._alone else 0.0)


def _peak_bytes() -> int:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_DAMAGED = ("edited", "missing", "not listed")  # stands for a file that is not what its manifest says


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
        "params": redacted(chosen),
        "inputs": _inputs(ctx, stage),
        "code": stage.code(),
        "outputs": _manifests(ctx.out(stage.name, *([item] if item else []))),
    }


def write_record(ctx: StageContext, stage: Stage, *, item: str = "", cost: StageCost | None = None) -> None:
    """Keep the present snapshot as what the stage was made from, with what making it took.

    A stage that was served from the cache keeps the figures of the run that did the work.
    """
    path = record_path(ctx, stage, item=item)
    now = snapshot(ctx, stage, item=item)
    before = _read(path) or {}
    if before.get("outputs") == now["outputs"] and (cost is None or not cost.stored_bytes):
        took = before.get("took")
    else:
        took = None if cost is None else cost.to_json()
    write_atomic(path, json.dumps(now | {"took": took}, indent=1))


def took(ctx: StageContext, stage: Stage, *, item: str = "") -> StageCost | None:
    """Return what the stage took when it was last made; None where nobody measured."""
    found = (_read(record_path(ctx, stage, item=item)) or {}).get("took")
    return StageCost(**found) if found else None


def changes(ctx: StageContext, stage: Stage, *, item: str = "") -> list[Change]:
    """Return why the stage would run; empty = it is up to date."""
    before = _read(record_path(ctx, stage, item=item))
    if before is None:
        return [Change("new", "it has not run with this profile yet")]
    now = snapshot(ctx, stage, item=item)
    found: list[Change] = []
    for kind, singular in _KINDS:
        for key in sorted(before[kind].keys() | now[kind].keys()):
            old, new = before[kind].get(key), now[kind].get(key)
            if old != new:
                found.append(_change(singular, key, old, new))
    return found


_KINDS = (("params", "param"), ("inputs", "input"), ("code", "code"), ("outputs", "output"))
_COST = frozenset(field.name for field in fields(StageCost))


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record, or None where there is none that is whole; a torn one counts as absent."""
    row = read_record(path)
    if row is None or not all(isinstance(row.get(kind), dict) for kind, _ in _KINDS):
        return None
    took = row.get("took")
    fits = isinstance(took, dict) and took.keys() == _COST and all(isinstance(v, int | float | None) for v in took.values())
    return row if fits else row | {"took": None}


def _change(kind: str, key: str, old: object, new: object) -> Change:
    if kind == "param":
        return Change(kind, f"`{key}`", str(old), str(new))
    if new in _DAMAGED:
        state = str(new)
    else:
        state = "edited" if old is not None and new is not None else ("missing" if new is None else "new")
    return Change(kind, f"{key} ({state})")


def _inputs(ctx: StageContext, stage: Stage) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in stage.inputs:
        found |= {f"{name}/{k}": v for k, v in _manifests(ctx.out(*name.split("/"))).items()}
    generator = ctx.params.dialogue.generator.model
    if stage.name == "train_dialogue" and generator.startswith(("fused:", "source:")):
        name = "fuse" if generator.startswith("fused:") else "sources"
        found |= {f"{name}/{k}": v for k, v in _manifests(ctx.out(name)).items()}
    if stage.name == "prepare":
        named = [s.path for s in ctx.params.corpus.sets] + [ctx.params.dialogues.path]
        files = [f for name in named if name for f in _files(ctx.root / name)]
        found |= {_shown(f, ctx.root): file_digest(f) for f in files}
    return found


def _files(place: Path) -> list[Path]:
    return [f for f in (sorted(place.rglob("*")) if place.is_dir() else [place]) if f.is_file()]


def _shown(file: Path, root: Path) -> str:
    """Return the path as the params would name it: relative in the project, absolute elsewhere."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def _manifests(folder: Path) -> dict[str, str]:
    """Digest every manifest below a folder, and notice files that are gone or have another size."""
    found: dict[str, str] = {}
    for manifest in sorted(folder.rglob(MANIFEST)):
        if not manifest.is_file():
            continue
        name = manifest.parent.relative_to(folder).as_posix()
        found[name] = file_digest(manifest)
        try:
            content = parse_manifest(read_manifest(manifest.parent, cure=""), manifest, cure="")
        except ArtifactError:
            found[f"{name}/{MANIFEST}"] = "edited"
            continue
        for file in content.files:
            path = manifest.parent / file.path
            if not path.is_file():
                found[f"{name}/{file.path}"] = "missing"
            elif file_digest(path) != file.sha256:
                found[f"{name}/{file.path}"] = "edited"
        found |= {f"{name}/{extra}": "not listed" for extra in unlisted(manifest.parent, content)}
    return found
