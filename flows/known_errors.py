"""Which errors the command line explains in a line instead of a traceback: those a user can cure."""

import errno
import logging
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from models.errors import FusedialError
from models.redaction import redact

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
    errno.ENOTDIR: ("must be inside folders", "Move the file that is in the place of a folder."),
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
        return _cure_line("This step", errno.ENOMEM, str(error) or "the system gives no more")
    if isinstance(error, OSError) and error.errno in _RULES:
        name = next((n for n in (error.filename2, error.filename) if isinstance(n, str | bytes) and n), "")
        unnamed = "This step" if error.errno in _SCARCE else "A file"
        return _cure_line(f"`{os.fsdecode(name)}`" if name else unnamed, error.errno, error.strerror or str(error))
    text = str(error)
    os_error = _RUST.search(text)
    number = int(os_error[1]) if os_error else next((number for part, number in _TEXTS.items() if part in text), 0)
    if number not in _RULES or (isinstance(error, OSError) and error.errno):
        return None
    return _cure_line("This step" if number in _SCARCE else "A file", number, " ".join(text.split())[:300])


def is_full(error: BaseException) -> bool:
    """Say whether a disk is full: that counts wherever in a chain of errors it stands."""
    number = error.errno if isinstance(error, OSError) else None
    return number in _FULL or any(part in str(error) for part, number in _TEXTS.items() if number in _FULL)


def _cure_line(where: str, number: int, why: str) -> str:
    rule, cure = _RULES[number]
    kind = "WriteError" if number in _FULL else _SCARCE.get(number, "FileError")
    return f"{kind}: {where} {rule}: {why}. {cure}"


def explain(error: BaseException) -> str | None:
    """Return what to tell the user, or None for an error that needs its traceback."""
    text = _explained(error)
    return None if text is None else redact(text)


def _explained(error: BaseException) -> str | None:
    if isinstance(error, FusedialError):
        return f"{type(error).__name__}: {error}"
    for cause in _causes(error):
        if isinstance(cause, FusedialError):
            return f"{type(cause).__name__}: {cause}"
        if _from_template(cause):
            return (
                "TemplateError: a template must render, but stops with "
                f"{type(cause).__name__}: {_line(cause)}. "
                "Set another `chat_template` for this source, or correct it."
            )
        if _no_prefect(cause):
            return (
                f"ServerError: `PREFECT_API_URL` must name a Prefect server that answers, but: {_line(cause)}. "
                "Start it (`make server`), correct the address, or unset it: then the command starts one of its own."
            )
        if (line := file_error(cause)) is not None:
            return line
    full = next((cause for cause in _chain(error) if is_full(cause)), None)
    return None if full is None else file_error(full)


def _from_template(error: BaseException) -> bool:
    """Say whether a chat template stopped; a page of ours that does is a bug."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    raised = type(error).__module__.partition(".")[0] == "jinja2" or "<template>" in files
    return raised and not any("models/reporting" in Path(file).as_posix() for file in files)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _no_prefect(error: BaseException) -> bool:
    kind = type(error)
    lost = kind.__module__.partition(".")[0] in ("httpx", "httpcore") and kind.__name__.endswith(("Error", "Timeout"))
    return lost or (isinstance(error, RuntimeError) and str(error).startswith(_PREFECT_TEXTS))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; what was being handled when a bug showed is none of its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


_PREFECT_TEXTS = ("Failed to reach API", "Timed out while attempting to connect to ephemeral Prefect API")
# Said behind an error that has been reported; and by a busy machine's Prefect while it sends its last events.
_IDLE_WORDS = (
    "Finished in state Failed",
    "Still processing items",
    "Execution was aborted by an interrupt signal",
    "Execution was aborted by a termination signal",
    "Execution was aborted by Python system exit call",
)
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def quiet_known_errors() -> None:
    """Keep off the terminal what Prefect says of errors that `guarded` tells in a line (the API gets it), and of its own events.

    The error of a run ends the command: a known one is explained, any other has its whole traceback in a file.
    """
    import prefect  # noqa: F401 - sets up its loggers

    def unreported(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        known = error is not None and (record.name.startswith(_RUN_LOGGERS) or explain(error) is not None)
        return not known and not any(words in record.getMessage() for words in _IDLE_WORDS)

    # Prefect's run loggers pass their records up to the root logger, whose handlers write to the terminal.
    for handler in logging.getLogger().handlers:
        handler.addFilter(unreported)
