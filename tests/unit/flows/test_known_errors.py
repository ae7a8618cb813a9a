"""What the command line says in a line, and what keeps its traceback."""

import errno
import logging
import os

import pytest

from flows.known_errors import explain, quiet_known_errors
from models.errors import DataError, Problem, SourceError


def chained(outer: Exception, inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as error:
            raise outer from error
    except Exception as error:
        return error


def test_errors_of_ours_are_told_by_name() -> None:
    assert explain(SourceError("No such model. Name another.")) == "SourceError: No such model. Name another."
    data = DataError("Bad rows", [Problem("a.jsonl:3", "must be JSON", "x")])
    assert explain(data) == "DataError: Bad rows (1):\n  - a.jsonl:3 must be JSON, but is x."


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_file_and_the_cure(code: int) -> None:
    text = explain(OSError(code, os.strerror(code), "some/file"))
    assert text is not None and text.startswith(f"WriteError: `some/file` cannot be written: {os.strerror(code)}. Free space")
    assert "same command again" in text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        chained(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"), RuntimeError("iostream error")),
        chained(RuntimeError("wrapped"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_libraries_say_it_in_their_own_ways(error: Exception) -> None:
    assert str(explain(error)).startswith("WriteError: A file cannot be written: ")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EACCES, "Permission denied", "f"), KeyError("x")])
def test_everything_else_needs_its_traceback(error: Exception) -> None:
    assert explain(error) is None


def test_prefect_is_quiet_about_explained_errors_only(caplog: pytest.LogCaptureFixture) -> None:
    handler = caplog.handler
    before = list(handler.filters)
    try:
        quiet_known_errors()
        log = logging.getLogger("prefect.task_runs")
        for error in (SourceError("known"), RuntimeError("a bug")):
            log.error("Task run failed with exception: %r", error, exc_info=error)
        log.error("Finished in state Failed('…')")
        logging.getLogger("EventsWorker").warning("Still processing items: 1 items remaining...")
    finally:
        handler.filters[:] = before
    assert [r.getMessage() for r in caplog.records] == ["Task run failed with exception: RuntimeError('a bug')"]
