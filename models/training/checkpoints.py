"""Training state on disk: written aside, renamed when complete, verified when found again, kept to a number.

A folder of resume state holds `execution.json` (how the first run was executed), `history.jsonl` (the curves so far),
`checkpoint-<step>/` (Hugging Face Trainer format plus `complete.json`, written last, with the digest of every file) and
`phases-<fingerprint>/` (models of finished phases, each with a `.sha256` file). A checkpoint that was being written when the
process died is under `writing/` and is never read.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.files import file_digest, link_or_copy, read_record, replacing_folder, tree_digest, write_atomic

logger = logging.getLogger(__name__)

MARKER = "complete.json"
EXECUTION = "execution.json"
HISTORY = "history.jsonl"
_SEAL = ".sha256"
_WRITING = "writing"


def write_json(path: Path, row: Mapping[str, Any]) -> None:
    """Write indented JSON with sorted keys, whole or not at all."""
    write_atomic(path, json.dumps(row, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def place_folder(source: Path, final: Path) -> None:
    """Replace `final` with a copy of a finished folder: hard links where the file system allows, else copies."""
    with replacing_folder(final) as temporary:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            link_or_copy(path, temporary / path.relative_to(source))


def seal(folder: Path) -> None:
    """Write the digest of a finished folder to `<folder>.sha256`."""
    write_atomic(_seal_of(folder), tree_digest(folder))


def is_whole(folder: Path) -> bool:
    """Return whether a folder exists and is unchanged since `seal`."""
    seal = _seal_of(folder)
    return folder.is_dir() and seal.is_file() and seal.read_bytes() == tree_digest(folder).encode()


def discard(folder: Path) -> None:
    """Delete a folder and its seal."""
    _seal_of(folder).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _seal_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _SEAL)


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
        fingerprint: Of the training; checkpoints of another one are never resumed.
    """

    def __init__(self, root: Path, *, fingerprint: str, keep: int) -> None:
        """Use `root`, and keep the newest `keep` checkpoints; nothing is read or written yet."""
        self.root = root
        self.fingerprint = fingerprint
        self._keep = keep

    @property
    def writing(self) -> Path:
        """Folder of the checkpoint that is being written."""
        return self.root / _WRITING

    @property
    def phases(self) -> Path:
        """Folder of the models of finished phases, until the training ends."""
        return self.root / f"phases-{self.fingerprint[:12]}"

    def discard_torn(self) -> None:
        """Remove the checkpoint that a killed process left incomplete."""
        if self.writing.exists():
            logger.info("Removing an incomplete checkpoint under `%s`.", self.writing)
            shutil.rmtree(self.writing)

    def newest(
        self, *, phase_ends: Mapping[int, int] | None = None, lacks: Callable[[Path], Sequence[str]] | None = None
    ) -> Path | None:
        """Return the newest intact checkpoint of this training, or None; the reason for skipping one is logged.

        Args:
            phase_ends: Step at which a phase ends → its number: checkpoints from that step on need the phase's model.
            lacks: Returns the names of what else a checkpoint needs and does not have.
        """
        for path in reversed(self._numbered()):
            reason = self._objection(path) or self._damage(path)
            lost = [n for step, n in (phase_ends or {}).items() if step <= _step_of(path) and not is_whole(self.phase(n))]
            if reason is None and lost:
                reason = f"the model of phase {lost[0]} is missing or was altered"
            if reason is None and lacks is not None and (names := lacks(path)):
                reason = f"the models chosen before it are missing or were altered ({', '.join(names)})"
            if reason is None:
                return path
            logger.warning("Not resuming from `%s`: %s.", path, reason)
        return None

    def phase(self, number: int) -> Path:
        """Return the folder of the model of a finished phase, counted from 1."""
        return self.phases / f"phase-{number}"

    def commit(self, step: int) -> Path:
        """Move the checkpoint of a step from `writing` to its place, delete the oldest beyond `keep`, and return the place."""
        source, final = self.writing / f"checkpoint-{step}", self.root / f"checkpoint-{step}"
        _sync(source)
        files = {
            p.relative_to(source).as_posix(): {"bytes": p.stat().st_size, "sha256": file_digest(p)}
            for p in sorted(source.rglob("*"))
            if p.is_file()
        }
        row = {"fingerprint": self.fingerprint, "step": step, "files": files, "history": _history(self.root / HISTORY)}
        write_json(source / MARKER, row)
        if final.exists():
            shutil.rmtree(final)
        source.replace(final)
        # Checkpoints of other trainings, and of later steps than this one, are obsolete.
        ours = [p for p in self._numbered() if _step_of(p) < step and self._objection(p) is None]
        kept = {final, *ours[len(ours) - min(len(ours), self._keep - 1) :]}
        for path in self._numbered():
            if path not in kept:
                shutil.rmtree(path)
        return final

    def execution(self, present: Execution) -> Execution:
        """Return how the first run of this training was executed, or record `present` if this is the first; log differences."""
        path = self.root / EXECUTION
        first = read_record(path)
        if first is None or first.get("fingerprint") != self.fingerprint or first.keys() != asdict(present).keys():
            self.record(present)
            return present
        kept = Execution(**first)
        changed = [k for k in ("threads", "micro_batch_size", "world_size", "dtype", "device") if first[k] != asdict(present)[k]]
        if changed:
            changes = ", ".join(f"{k} {first[k]} (now {asdict(present)[k]})" for k in changed)
            logger.warning(
                "This training was started with %s. Threads and micro-batch of the first run are kept, so that it ends with the "
                "same bits; device and number of processes cannot be, and then it agrees within rounding only. "
                "Delete `%s` to continue with the present values.",
                changes,
                path,
            )
        return kept

    def record(self, execution: Execution) -> None:
        """Write `execution.json`, which later runs of the training read."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / EXECUTION, asdict(execution))

    def _numbered(self) -> list[Path]:
        found = [p for p in self.root.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
        return sorted(found, key=_step_of)

    def _objection(self, path: Path) -> str | None:
        """Return what is wrong with a checkpoint, judging by names and sizes; None if nothing is."""
        marker = read_record(path / MARKER)
        if marker is None or not _is_marker(marker):
            return f"it has no readable {MARKER} (the process was killed while writing it, or another version wrote it)"
        if marker["fingerprint"] != self.fingerprint:
            return "it belongs to other parameters, another target or other signals"
        for name, file in marker["files"].items():
            found = (path / name).stat().st_size if (path / name).is_file() else None
            if found != file["bytes"]:
                return f"its file {name} must have {file['bytes']} bytes, but has {found}"
        return None

    def _damage(self, path: Path) -> str | None:
        """Return what was altered in a checkpoint that passed `_objection`, or None: one flipped bit would reach the result."""
        marker = read_record(path / MARKER) or {}
        for name, file in marker["files"].items():
            if (found := file_digest(path / name)) != file["sha256"]:
                return f"its file {name} must have the sha256 {file['sha256']}, but has {found}"
        if _history(self.root / HISTORY, marker["history"]["bytes"]) != marker["history"]:
            return f"{HISTORY} has lost curves from before it"
        return None


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _history(path: Path, num_bytes: int | None = None) -> dict[str, Any]:
    """Return length and digest of the curves, or of their first `num_bytes`: rows are only ever appended."""
    content = b""
    if path.is_file():
        with path.open("rb") as file:
            content = file.read(-1 if num_bytes is None else num_bytes)
            os.fsync(file.fileno())
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _is_marker(row: Mapping[str, Any]) -> bool:
    files, history = row.get("files"), row.get("history")
    entries = [*files.values(), history] if isinstance(files, dict) else [None]
    return isinstance(row.get("fingerprint"), str) and all(
        isinstance(e, dict) and type(e.get("bytes")) is int and isinstance(e.get("sha256"), str) for e in entries
    )
