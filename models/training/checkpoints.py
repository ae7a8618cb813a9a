"""Training state on disk: written aside, renamed when complete, found again, kept to a number.

A folder of resume state holds `execution.json` (how the first run was executed), `checkpoint-<step>/` (Hugging Face Trainer
format plus `complete.json`, written last) and `phases-<fingerprint>/` (models of finished phases). A checkpoint that was being
written when the process died lies under `writing/` and is never read.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import ArtifactError
from models.params.base import Section

logger = logging.getLogger(__name__)

MARKER = "complete.json"
EXECUTION = "execution.json"
_WRITING = "writing"
# They change when state is kept, which other targets exist, or how a step is cut up, never what is computed.
_NOT_IN_FINGERPRINT = {"checkpoints", "targets", "micro_batch_size"}


def fingerprint(cfg: Section, *, method: str, target_digest: str, store_digests: Sequence[str]) -> str:
    """Return the sha256 over everything that decides the result of a training; checkpoints of another one are not resumed.

    Args:
        cfg: The section `fusion`.
        method: Preset, or name of a schedule.
        target_digest: `ResolvedSource.digest` of the target.
        store_digests: `tree_digest` of the ground-truth store and of the response store.
    """
    row = {
        "cfg": cfg.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT),
        "method": method,
        "target": target_digest,
        "stores": list(store_digests),
    }
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tree_digest(folder: Path) -> str:
    """Return the sha256 over names and contents of the files of a folder, streamed."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, row: Mapping[str, Any]) -> None:
    """Write JSON beside its place, force it to disk and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(row, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def complete_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder beside `final` to fill; it takes the place of `final` when the block ends without an error."""
    temporary = final.with_name(final.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    _sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)


def place_folder(source: Path, final: Path) -> None:
    """Put a copy of a finished folder at `final`: hard links where the file system allows, else copies."""
    with complete_folder(final) as temporary:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            place = temporary / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:  # another file system
                shutil.copyfile(path, place)


def _sync(folder: Path) -> None:
    """Force the files of a folder to disk: a power failure must not leave a complete-looking folder of empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Execution:
    """How a run was executed; the first run's values are kept so that a resumed run ends with the same bits.

    Attributes:
        fingerprint: Of the training they belong to.
        threads: torch threads per process.
        micro_batch_size: Prompts per forward pass and process.
        world_size: Processes.
        dtype: Autocast dtype.
        device: Device type.
        wrapper: Class around the model (`DistributedDataParallel`, …), or the model's own.
    """

    fingerprint: str
    threads: int
    micro_batch_size: int
    world_size: int
    dtype: str
    device: str
    wrapper: str = ""


class CheckpointFolder:
    """The checkpoints of one training.

    Attributes:
        root: The folder of resume state.
        fingerprint: Of the training; foreign checkpoints are never resumed.
    """

    def __init__(self, root: Path, *, fingerprint: str, keep: int) -> None:
        """Bind to a folder; nothing is read or written."""
        self.root = root
        self.fingerprint = fingerprint
        self._keep = keep

    @property
    def writing(self) -> Path:
        """Where a checkpoint is being written."""
        return self.root / _WRITING

    @property
    def phases(self) -> Path:
        """Where the models of finished phases wait for the end of the training."""
        return self.root / f"phases-{self.fingerprint[:12]}"

    def discard_torn(self) -> None:
        """Remove what a killed process left half-written."""
        if self.writing.exists():
            logger.info("Removing a half-written checkpoint under `%s`.", self.writing)
            shutil.rmtree(self.writing)

    def newest(self, *, phase_ends: Mapping[int, int] | None = None) -> Path | None:
        """Return the newest complete checkpoint of this training, or None; why others are passed over is logged.

        Args:
            phase_ends: Step at which a phase ends → its number: a checkpoint from there on needs that phase's model.
        """
        for path in reversed(self._numbered()):
            lost = [n for step, n in (phase_ends or {}).items() if step <= _step_of(path) and not self.phase(n).is_dir()]
            reason = self._objection(path) or (f"the model of phase {lost[0]} is missing" if lost else None)
            if reason is None:
                return path
            logger.warning("Not resuming from `%s`: %s.", path, reason)
        return None

    def phase(self, number: int) -> Path:
        """Where the model of a finished phase is kept."""
        return self.phases / f"phase-{number}"

    def commit(self, step: int) -> Path:
        """Declare the checkpoint under `writing` complete, and drop the oldest beyond `keep`."""
        source, final = self.writing / f"checkpoint-{step}", self.root / f"checkpoint-{step}"
        _sync(source)
        sizes = {p.relative_to(source).as_posix(): p.stat().st_size for p in sorted(source.rglob("*")) if p.is_file()}
        write_json(source / MARKER, {"fingerprint": self.fingerprint, "step": step, "files": sizes})
        if final.exists():
            shutil.rmtree(final)
        source.replace(final)
        # Checkpoints of other trainings, and later steps than this one, are overtaken.
        ours = [p for p in self._numbered() if _step_of(p) < step and self._objection(p) is None]
        kept = {final, *ours[len(ours) - min(len(ours), self._keep - 1) :]}
        for path in self._numbered():
            if path not in kept:
                shutil.rmtree(path)
        return final

    def execution(self, present: Execution) -> Execution:
        """Return the first run's way of execution if it was this training, else record `present`; differences are logged."""
        path = self.root / EXECUTION
        first = _read_json(path)
        if first is None or first.get("fingerprint") != self.fingerprint:
            self.record(present)
            return present
        kept = Execution(**first)
        changed = [k for k in ("threads", "micro_batch_size", "world_size", "dtype", "device") if first[k] != asdict(present)[k]]
        if changed:
            told = ", ".join(f"{k} {first[k]} (now {asdict(present)[k]})" for k in changed)
            logger.warning(
                "This training was begun with %s. Threads and micro-batch of the first run are kept, so that it ends with the "
                "same bits; device and number of processes cannot be, and then it agrees within rounding only. "
                "Delete `%s` to go on with the present values.",
                told,
                path,
            )
        return kept

    def record(self, execution: Execution) -> None:
        """Write `execution.json`."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / EXECUTION, asdict(execution))

    def _numbered(self) -> list[Path]:
        found = [p for p in self.root.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
        return sorted(found, key=_step_of)

    def _objection(self, path: Path) -> str | None:
        marker = _read_json(path / MARKER)
        if marker is None:
            return f"it has no readable {MARKER} (the process was killed while writing it)"
        if marker["fingerprint"] != self.fingerprint:
            return "it belongs to other parameters, another target or other signals"
        for name, size in marker["files"].items():
            found = (path / name).stat().st_size if (path / name).is_file() else None
            if found != size:
                return f"its file {name} must have {size} bytes, but has {found}"
        return None


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the object, or None if there is none to be read (missing or torn)."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(row, dict):
        raise ArtifactError(f"`{path}` must hold a JSON object, but holds {type(row).__name__}. Delete it and run again.")
    return row
