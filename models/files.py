"""Atomic writing of files and folders, digests, removal of leftovers, and JSON lines."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

from models.errors import ArtifactError
from models.records import from_row

logger = logging.getLogger(__name__)

_END = ".part"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_NAME_BYTES = 120  # of the final name; the rest of a temporary name must fit as well


def is_temporary(name: str) -> bool:
    """Say whether a file or folder of this name is being written, or was when its writer died."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success the file is synced to disk and renamed to `path`."""
    with _claimed(path, folder=False) as temporary:
        yield temporary
        _force(temporary)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # a file cannot be renamed over a folder
        temporary.replace(path)


@contextmanager
def replacing_folder(path: Path, *, force: bool = True, first_wins: bool = False) -> Iterator[Path]:
    """Yield an empty folder next to `path`, which replaces `path` on success.

    Args:
        path: Final path; an existing folder is replaced.
        force: Force the files to disk first: a power failure must not leave a complete-looking folder of empty files.
        first_wins: Where somebody else has put a folder there meanwhile, leave it: it has the same content, and readers.
    """
    with _claimed(path, folder=True) as temporary:
        yield temporary
        if force:
            for file in temporary.rglob("*"):
                if file.is_file():
                    _force(file)
        _take_place(temporary, path, first_wins=first_wins)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file that is whole or absent; text as UTF-8 with Unix line ends, half surrogates as `?`."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at `target`: a hard link where the file system has them, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a record, or None where there is none to be read: missing, torn, empty or something else.

    An unreadable record is logged; the caller creates it again.
    """
    try:
        if not path.is_file():  # a folder, a pipe or a broken link in its place; opening a pipe would wait for ever
            return None
        row = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("`%s` cannot be read (%s: %s) and counts as absent.", path, type(error).__name__, error)
        return None
    if not isinstance(row, dict):
        logger.warning("`%s` must hold a JSON object, but holds %s; it counts as absent.", path, type(row).__name__)
        return None
    return row


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, streamed.

    Raises:
        OSError: It cannot be read, or is not a regular file: opening a pipe would block forever.
    """
    if not S_ISREG(path.stat().st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path, *, digest_of: Callable[[Path], str] = file_digest) -> str:
    """Return the sha256 of the lines `<path below the folder> <sha256 of the file>`, sorted by path.

    Whatever is not a folder counts as a file, broken links excepted; empty folders leave no trace.

    Args:
        folder: The folder.
        digest_of: Returns the sha256 of a file, such as one that caches it.

    Raises:
        OSError: A file cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.exists() and not path.is_dir())
    return lines_digest((path.relative_to(folder).as_posix(), digest_of(path)) for path in files)


def lines_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 of the lines `<name> <digest>`, in the given order."""
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(os.fsencode(f"{name} {file}\n"))
    return digest.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what dead writers left in a folder; what is being written stays."""
    try:
        found = [Path(entry.path) for entry in os.scandir(folder) if is_temporary(entry.name)]
    except OSError:
        return
    for path in found:
        handle = _opened(path)
        if handle is None:
            continue
        try:
            if _locked(handle, wait=False):
                logger.info("Removing `%s`, which a killed process left.", path)
                _remove(path)
        finally:
            os.close(handle)


def remove_all_leftovers(folder: Path) -> None:
    """`remove_leftovers` a folder and all below it."""
    for place, _, _ in os.walk(folder):
        remove_leftovers(Path(place))


@contextmanager
def _claimed(path: Path, *, folder: bool) -> Iterator[Path]:
    """Make a temporary that only this block writes, locked until it ends; removed then if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary, handle = _claim(path, folder=folder)
    try:
        yield temporary
    finally:
        os.close(handle)
        if temporary.exists():
            _remove(temporary)


def _claim(path: Path, *, folder: bool) -> tuple[Path, int]:
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    while True:
        temporary = path.with_name(f".{name}.{secrets.token_hex(6)}{_END}")
        if folder:
            temporary.mkdir()
            handle = _opened(temporary)
        else:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if handle is None:
            continue  # somebody swept it
        _locked(handle, wait=True)
        try:
            if os.path.samestat(os.fstat(handle), os.stat(temporary)):
                return temporary, handle
        except FileNotFoundError:
            pass  # swept before it was locked
        os.close(handle)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _locked(handle: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by its writer, or a file system without locks: then nothing is swept
        return False
    return True


def _force(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _take_place(temporary: Path, path: Path, *, first_wins: bool) -> None:
    """Rename a folder over a path that may exist, or may be created by another process meanwhile."""
    for _ in range(100):
        try:
            temporary.rename(path)
            return
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
            failed = error
        if first_wins and path.is_dir():
            return
        old = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])}.{secrets.token_hex(6)}{_END}")
        try:
            path.rename(old)  # one atomic step
        except FileNotFoundError:
            continue
        _remove(old)
    raise failed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_Record = TypeVar("_Record")


def read_json_lines(path: Path, kind: type[_Record], *, what: str) -> Iterator[_Record]:
    """Yield the record of every line (`models.schema.from_row`).

    Raises:
        ArtifactError: A line is not such a record; names file, line and reason.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_json_line(line, kind, what=what, path=path, number=number)


def parse_json_line(line: bytes, kind: type[_Record], *, what: str, path: Path, number: int) -> _Record:
    """Return the record of one line.

    Raises:
        ArtifactError: It is not such a record; names file, line and reason.
    """
    try:
        return from_row(kind, json.loads(line.decode()))
    except ValueError as err:
        raise ArtifactError(f"`{path}` line {number} is no {what} ({err}). Run the stage that wrote it again.") from err
