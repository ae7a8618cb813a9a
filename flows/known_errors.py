"""Which errors the command line explains in a line, instead of a traceback: those a user can cure."""

import errno
import logging
from collections.abc import Iterator

from models.errors import FusedialError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# Libraries that write with code of their own lose the error number: safetensors, torch, SQLite.
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "inline_container", "iostream error", "database or disk is full")


def explain(error: BaseException) -> str | None:
    """Return what to tell the user, or None for an error that needs its traceback."""
    if isinstance(error, FusedialError):
        return f"{type(error).__name__}: {error}"
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _FULL:
            where = f"`{cause.filename}`" if cause.filename else "A file"
            return _unwritable(where, cause.strerror or str(cause))
        if any(text in str(cause) for text in _FULL_TEXTS):
            return _unwritable("A file", str(cause))
    return None


def _unwritable(where: str, why: str) -> str:
    cure = "Free space, then run the same command again: finished shards and checkpoints are kept."
    return f"WriteError: {where} cannot be written: {why}. {cure}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# Said behind an error that has been explained; and by a busy machine's Prefect while it sends its last events.
_IDLE_WORDS = ("Finished in state Failed", "Still processing items")


def quiet_known_errors() -> None:
    """Keep off the terminal what Prefect says of errors that `explain` knows (the API gets it), and of its own last events."""
    import prefect  # noqa: F401 - sets up its loggers

    def unexplained(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        known = error is not None and explain(error) is not None
        return not known and not any(words in record.getMessage() for words in _IDLE_WORDS)

    # Prefect's run loggers pass their records up to the root logger, whose handlers write to the terminal.
    for handler in logging.getLogger().handlers:
        handler.addFilter(unexplained)
