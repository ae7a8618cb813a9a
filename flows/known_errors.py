"""Which errors the command line explains in a line, instead of a traceback: those a user can cure."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

from flows.file_errors import file_error, is_full
from models.errors import FusedialError
from models.redaction import redact


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
        if (told := file_error(cause)) is not None:
            return told
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
# Said behind an error that has been told; and by a busy machine's Prefect while it sends its last events.
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

    def untold(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        known = error is not None and (record.name.startswith(_RUN_LOGGERS) or explain(error) is not None)
        return not known and not any(words in record.getMessage() for words in _IDLE_WORDS)

    # Prefect's run loggers pass their records up to the root logger, whose handlers write to the terminal.
    for handler in logging.getLogger().handlers:
        handler.addFilter(untold)
