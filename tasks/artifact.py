"""Artifacts: content-addressed folders with a manifest, verified whenever a cached record names them.

A step writes into a scratch folder; `publish` hashes the files, writes `manifest.json` last, and renames the folder to
`.cache/artifacts/<first two>/<sha256>/`. The sha256 is over the manifest, so equal content has one address and one copy.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from models.errors import ArtifactError
from tasks.workspace import cache_dir, store_dir

MANIFEST = "manifest.json"
_BLOCK = 1 << 20
# A file system's clock ticks every few milliseconds: what has just changed may change again and look the same.
_SETTLED_NS = 100_000_000
_digests: dict[str, tuple[str, str]] = {}
_published = [0]
_COUNTING = threading.Lock()


class Artifact(BaseModel):
    """A reference to a published folder. Reading one back verifies the folder, so a tampered file is a cache miss.

    Attributes:
        kind: What it is, such as `corpus` or `signals`.
        sha256: Digest of its manifest: the address and the identity downstream steps depend on.
        bytes: Size of all its files.
        meta: Small deterministic facts of the producer, part of the manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    sha256: str
    bytes: int
    meta: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """The published folder."""
        return store_dir() / self.sha256[:2] / self.sha256

    @model_validator(mode="after")
    def _verified(self) -> "Artifact":
        verify(self.path, self.sha256)
        return self


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, remembered by (path, size, mtime, inode).

    A process hashes a file once; digests of large files outlast it: an unchanged 14 GB file is hashed once for all.
    """
    stat = path.stat()
    stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
    name = str(path.absolute())
    changed = f"{stamp}:{stat.st_ctime_ns}"  # an edit may put the time of the content back, not that of the change
    seen, digest = _digests.get(name, ("", ""))
    if seen == changed:
        return digest
    digest = _large_digest(path, stamp) if stat.st_size > _BLOCK else _hash(path)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
        _digests[name] = (changed, digest)
    return digest


def _large_digest(path: Path, stamp: str) -> str:
    memo = cache_dir() / "digests" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    if memo.is_file():
        seen, _, digest = memo.read_text().partition(" ")
        if seen == stamp:
            return digest
    digest = _hash(path)
    memo.parent.mkdir(parents=True, exist_ok=True)
    _write_atomic(memo, f"{stamp} {digest}")
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(path: Path) -> str:
    """Return the sha256 over names and digests of a file or of all files below a folder."""
    if path.is_file():
        return file_digest(path)
    rows = [(str(f.relative_to(path)), file_digest(f)) for f in sorted(path.rglob("*")) if f.is_file()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def published_bytes() -> int:
    """Return what this process has put into the store so far; what was there already does not count."""
    return _published[0]


def publish(folder: Path, kind: str, *, meta: Mapping[str, Any]) -> Artifact:
    """Seal `folder` and move it into the store.

    Raises:
        ArtifactError: The folder is empty.
    """
    files = [
        {"path": f.relative_to(folder).as_posix(), "sha256": file_digest(f), "bytes": f.stat().st_size}
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != MANIFEST
    ]
    if not files:
        raise ArtifactError(f"{folder} holds no file, so there is nothing to publish as `{kind}`.")
    manifest = {"schema": 1, "kind": kind, "files": files, "meta": dict(meta)}
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    home = store_dir() / digest[:2] / digest
    if home.exists():
        _discard_if_broken(home, digest)
    if not home.exists():
        _write_atomic(folder / MANIFEST, text)
        for file in files:
            (folder / str(file["path"])).chmod(0o444)
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(home)
            with _COUNTING:
                _published[0] += sum(int(file["bytes"]) for file in files)  # type: ignore[call-overload]
        except OSError:
            if not home.exists():
                raise
            shutil.rmtree(folder)  # another step has just published the same content
    else:
        shutil.rmtree(folder)
    return Artifact(kind=kind, sha256=digest, bytes=sum(int(f["bytes"]) for f in files), meta=dict(meta))  # type: ignore[call-overload]


def verify(folder: Path, sha256: str, *, cure: str = "Run its stage again.") -> None:
    """Check that a published folder is what its digest says.

    Raises:
        ArtifactError: Naming the file that is missing or differs, what it must be and what it is; `cure` says what to do.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ArtifactError(f"{folder} has no {MANIFEST}: the artifact is missing or incomplete. {cure}")
    text = manifest.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if found != sha256:
        raise ArtifactError(f"{manifest} must have the sha256 {sha256}, but has {found}: it was edited. {cure}")
    for file in json.loads(text)["files"]:
        path = folder / file["path"]
        if not path.is_file():
            raise ArtifactError(f"{path} is listed in {MANIFEST}, but missing. {cure}")
        size = path.stat().st_size
        if size != file["bytes"]:
            raise ArtifactError(f"{path} must have {file['bytes']} bytes, but has {size}: it was truncated or edited. {cure}")
        found = file_digest(path)
        if found != file["sha256"]:
            raise ArtifactError(f"{path} must have the sha256 {file['sha256']}, but has {found}: it was edited. {cure}")


def materialise(artifact: Artifact, target: Path) -> Path:
    """Put the files of an artifact at `target` (hard links where possible, else copies), replacing what is there.

    The manifest comes last and the folder is renamed into place, so a complete folder is recognisable.
    """
    return materialise_tree({".": artifact}, target)


def materialise_tree(parts: Mapping[str, Artifact], target: Path) -> Path:
    """Put several artifacts below `target`, each in its sub-folder (`.` = directly)."""
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    for name, artifact in parts.items():
        for file in sorted(artifact.path.rglob("*")):
            if file.is_file():
                _link(file, building / name / file.relative_to(artifact.path))
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    building.rename(target)
    return target


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system: a copy is as good
        shutil.copy2(source, target)


def _discard_if_broken(home: Path, digest: str) -> None:
    try:
        verify(home, digest)
    except ArtifactError:
        shutil.rmtree(home)


def _write_atomic(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def adopt(folder: Path, *, stage: str) -> Artifact:
    """Return the artifact that was materialised at `folder`, taking its files into the store if they are not there.

    This is how a stage reads its inputs: a DVC out pulled from a remote is as good as one built here.

    Args:
        folder: Folder with a manifest.
        stage: Name of the stage that makes it, for the message.

    Raises:
        ArtifactError: The folder is missing, incomplete or edited.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ArtifactError(f"{folder} is missing or incomplete; run `python -m flows run {stage}` first.")
    text = manifest.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    verify(folder, digest, cure=f"Run `python -m flows run {stage}` again.")
    home = store_dir() / digest[:2] / digest
    if home.exists():
        _discard_if_broken(home, digest)
    if not home.exists():
        building = home.with_name(f".{digest}.{os.getpid()}")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                _link(file, building / file.relative_to(folder))
        try:
            building.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(building)
    content = json.loads(text)
    return Artifact(
        kind=content["kind"], sha256=digest, bytes=sum(int(f["bytes"]) for f in content["files"]), meta=content["meta"]
    )


def adopt_all(folder: Path, *, stage: str) -> dict[str, Artifact]:
    """Return every artifact materialised below `folder`, by its relative path.

    Raises:
        ArtifactError: There is none, or one is incomplete.
    """
    found = {m.parent.relative_to(folder).as_posix(): adopt(m.parent, stage=stage) for m in sorted(folder.rglob(MANIFEST))}
    if not found:
        raise ArtifactError(f"{folder} is missing or incomplete; run `python -m flows run {stage}` first.")
    return found
