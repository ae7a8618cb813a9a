"""What the operating system refuses, as one line with a cure: by error number, or by what libraries make of it."""

import errno
import os
import re

_ROOM = "Free space, then run the same command again: finished shards and checkpoints are kept."
_RULES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("cannot be written", _ROOM),
    errno.EDQUOT: ("cannot be written", _ROOM),
    errno.EFBIG: ("cannot be written", "Raise the limit of file sizes (`ulimit -f`)."),
    errno.EROFS: ("must be writable", "Mount its file system for writing, or move the project."),
    errno.EACCES: ("must be open to you", "Change its rights or its owner."),
    errno.EPERM: ("must be open to you", "Change its rights or its owner."),
    errno.EMFILE: ("cannot be opened", "Raise the limit of open files: `ulimit -n 4096`."),
    errno.ENFILE: ("cannot be opened", "The whole system has too many open files: end other programs."),
    errno.ENAMETOOLONG: ("must have a shorter path", "Shorten the names in the params, or move the project up."),
    errno.EISDIR: ("must be a file", "Move the folder away."),
    errno.ENOTDIR: ("must lie in folders", "Move away the file that stands where a folder must be."),
    errno.EEXIST: ("must not be there yet", "Move away what is in its place."),
    errno.ENOTEMPTY: ("must not be in use", "End what else writes there, then run again."),
    errno.ENOENT: ("must be there", "Put it back, or run the stage that makes it."),
    errno.ELOOP: ("must lead to a file", "Its links lead in a circle: remove them."),
    errno.ENXIO: ("must be a file", "Move the pipe or socket away."),
    errno.EIO: ("must be readable and writable", "See to the disk."),
    errno.ESTALE: ("must be readable and writable", "Mount its file system again."),
    errno.ENOTCONN: ("must be readable and writable", "Mount its file system again."),
    errno.EBUSY: ("must not be in use", "End what else uses it, then run again."),
    errno.ENOMEM: ("needs more memory", "Lower batch sizes or `runtime.workers`."),
    errno.EAGAIN: (
        "needs more threads, processes or memory",
        "Raise the limits (`ulimit -u`, `ulimit -v`), or lower `runtime.threads` and `runtime.workers`.",
    ),
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What the whole step wants, not one file.
_SCARCE = {errno.ENOMEM: "MemoryError", errno.EAGAIN: "LimitError"}
# Libraries that use files with code of their own lose the number: safetensors, torch, SQLite, FAISS.
_TEXTS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "inline_container": errno.ENOSPC,
    "iostream error": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "Read-only file system": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "Permission denied": errno.EACCES,
    "Too many open files": errno.EMFILE,
    "File name too long": errno.ENAMETOOLONG,
    "disk I/O error": errno.EIO,
    "Input/output error": errno.EIO,
    "can't allocate memory": errno.ENOMEM,
    "Cannot allocate memory": errno.ENOMEM,
    "out of memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "Resource temporarily unavailable": errno.EAGAIN,
}
_RUST = re.compile(r"\(os error (\d+)\)")


def file_error(error: BaseException) -> str | None:
    """Return what to tell of an error that the operating system caused; None for any other."""
    if isinstance(error, MemoryError):
        return _line("This step", errno.ENOMEM, str(error) or "the system gives no more")
    if isinstance(error, OSError) and error.errno in _RULES:
        name = next((n for n in (error.filename2, error.filename) if isinstance(n, str | bytes) and n), "")
        unnamed = "This step" if error.errno in _SCARCE else "A file"
        return _line(f"`{os.fsdecode(name)}`" if name else unnamed, error.errno, error.strerror or str(error))
    text = str(error)
    told = _RUST.search(text)
    number = int(told[1]) if told else next((number for part, number in _TEXTS.items() if part in text), 0)
    if number not in _RULES or (isinstance(error, OSError) and error.errno):
        return None
    return _line("This step" if number in _SCARCE else "A file", number, " ".join(text.split())[:300])


def is_full(error: BaseException) -> bool:
    """Say whether a disk is full: that counts wherever in a chain of errors it stands."""
    number = error.errno if isinstance(error, OSError) else None
    return number in _FULL or any(part in str(error) for part, number in _TEXTS.items() if number in _FULL)


def _line(where: str, number: int, why: str) -> str:
    rule, cure = _RULES[number]
    kind = "WriteError" if number in _FULL else _SCARCE.get(number, "FileError")
    return f"{kind}: {where} {rule}: {why}. {cure}"
