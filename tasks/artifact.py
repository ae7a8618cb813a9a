"""Artifacts: content-addressed folders with a manifest, verified whenever a cached record names them.

A step writes into a scratch folder; `publish` hashes the files, writes `manifest.json` last, and renames the folder to
`.cache/artifacts/<first two>/<sha256>/`. The sha256 is over the manifest, so equal content has one address and one copy.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

import models.files
from models.errors import ArtifactError
from models.files import link_or_copy, remove_all_leftovers, replacing_folder, write_atomic
from tasks.manifest import MANIFEST, Manifest, parse_manifest, read_manifest, unlisted
from tasks.workspace import cache_dir, store_dir

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
        made = verify(self.path, self.sha256)
        if (made.kind, made.num_bytes, _as_text(made.meta)) != (self.kind, self.bytes, _as_text(self.meta)):
            raise ArtifactError(f"{self.path} is not what a record says of it: the record was edited. Run its stage again.")
        return self


def _as_text(meta: Mapping[str, Any]) -> str:
    return json.dumps(meta, sort_keys=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, remembered for as long as size, times of content and change, inode and device stay.

    A process hashes a file once; digests of large files outlast it: an unchanged 14 GB file is hashed once for all. The time of
    change cannot be set, so an edit that puts the time of the content back, a copy, or another machine's file is hashed again.

    Raises:
        OSError: It is not a regular file: reading from a pipe could wait for ever.
    """
    stat = path.stat()
    if not S_ISREG(stat.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), str(path))
    stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}:{stat.st_dev}"
    name = str(path.absolute())
    seen, digest = _digests.get(name, ("", ""))
    if seen == stamp:
        return digest
    settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS
    digest = _large_digest(path, stamp, keep=settled) if stat.st_size > _BLOCK else models.files.file_digest(path)
    if settled:
        _digests[name] = (stamp, digest)
    return digest


def _large_digest(path: Path, stamp: str, *, keep: bool) -> str:
    memo = cache_dir() / "digests" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    try:
        kept = memo.read_bytes() if memo.is_file() else b""
    except OSError:
        kept = b""
    digest = kept[-64:].decode("ascii", "replace")
    if kept == _memo(stamp, digest):
        return digest
    digest = models.files.file_digest(path)
    if keep:
        with contextlib.suppress(OSError):  # a memo that cannot be kept costs time only
            write_atomic(memo, _memo(stamp, digest))
    return digest


def _memo(stamp: str, digest: str) -> bytes:
    """Return the record of a digest, with a check of its own: a flipped bit must not make it speak for another content."""
    check = hashlib.sha256(f"{stamp} {digest}".encode("utf-8", "replace")).hexdigest()
    return f"{stamp} {check} {digest}".encode("utf-8", "replace")


def tree_digest(path: Path) -> str:
    """Return the digest of a file, or `models.files.tree_digest` of a folder; raises as `file_digest`."""
    if path.exists() and not path.is_dir():
        return file_digest(path)
    return models.files.tree_digest(path, digest_of=file_digest)


def published_bytes() -> int:
    """Return what this process has put into the store so far; what was there already, also linked from there, does not count."""
    return _published[0]


def publish(folder: Path, kind: str, *, meta: Mapping[str, Any]) -> Artifact:
    """Seal `folder` and move it into the store.

    Raises:
        ArtifactError: The folder is empty.
    """
    remove_all_leftovers(folder)
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
    _discard_if_broken(home, digest)
    if not home.exists():
        write_atomic(folder / MANIFEST, text)
        for file in files:
            (folder / str(file["path"])).chmod(0o444)
        home.parent.mkdir(parents=True, exist_ok=True)
        stats = [(folder / str(file["path"])).stat() for file in files]
        try:
            folder.rename(home)
            with _COUNTING:
                _published[0] += sum(stat.st_size for stat in stats if stat.st_nlink == 1)
        except OSError:
            if not home.exists():
                raise
            shutil.rmtree(folder)  # another step has just published the same content
    else:
        shutil.rmtree(folder)
    return Artifact(kind=kind, sha256=digest, bytes=sum(int(f["bytes"]) for f in files), meta=dict(meta))  # type: ignore[call-overload]


def verify(folder: Path, sha256: str, *, cure: str = "Run its stage again.") -> Manifest:
    """Check that a published folder is what its digest says, no more and no less, and return its manifest.

    Raises:
        ArtifactError: Naming the file that is missing, differs or is not listed, what it must be and what it is; `cure` says what
            to do.
    """
    manifest = folder / MANIFEST
    text = read_manifest(folder, cure=cure)
    found = hashlib.sha256(text).hexdigest()
    if found != sha256:
        raise ArtifactError(f"{manifest} must have the sha256 {sha256}, but has {found}: it was edited. {cure}")
    content = parse_manifest(text, manifest, cure=cure)
    for file in content.files:
        path = folder / file.path
        if not path.is_file():
            raise ArtifactError(f"{path} is listed in {MANIFEST}, but missing. {cure}")
        size = path.stat().st_size
        if size != file.bytes:
            raise ArtifactError(f"{path} must have {file.bytes} bytes, but has {size}: it was truncated or edited. {cure}")
        found = file_digest(path)
        if found != file.sha256:
            raise ArtifactError(f"{path} must have the sha256 {file.sha256}, but has {found}: it was edited. {cure}")
    for name in unlisted(folder, content):
        raise ArtifactError(f"{folder / name} is not listed in {MANIFEST}: it was put there later. Remove it. {cure}")
    return content


def materialise(artifact: Artifact, target: Path) -> Path:
    """Put the files of an artifact at `target` (hard links where possible, else copies), replacing what is there.

    The folder is renamed into place whole. Where it is there already as it must be, it is left alone: others may be reading it.
    """
    return materialise_tree({".": artifact}, target)


def materialise_tree(parts: Mapping[str, Artifact], target: Path) -> Path:
    """Put several artifacts below `target`, each in its sub-folder (`.` = directly)."""
    files = {
        Path(name) / file.relative_to(artifact.path): file
        for name, artifact in parts.items()
        for file in sorted(artifact.path.rglob("*"))
        if file.is_file()
    }
    if _is_there(files, target):
        return target
    with replacing_folder(target, force=False) as building:
        for name, file in files.items():
            link_or_copy(file, building / name)
    return target


def _is_there(files: Mapping[Path, Path], target: Path) -> bool:
    """Say whether exactly these files lie below `target`, with their content."""
    try:
        found = {path.relative_to(target) for path in target.rglob("*") if not path.is_dir() or path.is_symlink()}
        return found == {Path(os.path.normpath(name)) for name in files} and all(
            os.path.samefile(target / name, file) or file_digest(target / name) == file_digest(file)
            for name, file in files.items()
        )
    except OSError:
        return False


def _discard_if_broken(home: Path, digest: str) -> None:
    if not os.path.lexists(home):
        return
    try:
        verify(home, digest)
    except ArtifactError:
        if home.is_dir() and not home.is_symlink():
            shutil.rmtree(home)
        else:
            home.unlink()


def drop(artifact: Artifact) -> bool:
    """Remove an artifact from the store, unless a stage's output is linked to it; return whether it was removed.

    Where outputs are copies (another file system), it is removed from the store alone. Its step runs again when it is wanted.
    """
    # Other files may be linked to other artifacts, a manifest only to where its own one was put.
    manifest = artifact.path / MANIFEST
    if manifest.is_file() and manifest.stat().st_nlink > 1:
        return False
    shutil.rmtree(artifact.path, ignore_errors=True)
    return True


def adopt(folder: Path, *, stage: str) -> Artifact:
    """Return the artifact that was materialised at `folder`, taking its files into the store if they are not there.

    This is how a stage reads its inputs: a DVC out pulled from a remote is as good as one built here.

    Args:
        folder: Folder with a manifest.
        stage: Name of the stage that makes it, for the message.

    Raises:
        ArtifactError: The folder is missing, incomplete or edited.
    """
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} is missing or incomplete; run `python -m flows run {stage}` first.")
    cure = f"Run `python -m flows run {stage}` again."
    digest = hashlib.sha256(read_manifest(folder, cure=cure)).hexdigest()
    content = verify(folder, digest, cure=cure)
    home = store_dir() / digest[:2] / digest
    _discard_if_broken(home, digest)
    if not home.exists():
        with replacing_folder(home, force=False, first_wins=True) as building:
            for name in (*(file.path for file in content.files), MANIFEST):
                link_or_copy(folder / name, building / name)
    return Artifact(kind=content.kind, sha256=digest, bytes=content.num_bytes, meta=content.meta)


def adopt_all(folder: Path, *, stage: str) -> dict[str, Artifact]:
    """Return every artifact materialised below `folder`, by its relative path.

    Raises:
        ArtifactError: There is none, or one is incomplete.
    """
    found = {m.parent.relative_to(folder).as_posix(): adopt(m.parent, stage=stage) for m in sorted(folder.rglob(MANIFEST))}
    if not found:
        raise ArtifactError(f"{folder} is missing or incomplete; run `python -m flows run {stage}` first.")
    return found
