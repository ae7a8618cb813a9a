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
def test_a_full_disk_is_reported_with_the_file_and_the_cure(code: int) -> None:
    text = explain(OSError(code, os.strerror(code), "some/file"))
    assert text is not None and text.startswith(f"WriteError: `some/file` cannot be written: {os.strerror(code)}. Free space")
    assert "same command again" in text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        chained(RuntimeError("wrapped"), RuntimeError("database or disk is full")),
        chained(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"), RuntimeError("iostream error")),
        chained(RuntimeError("wrapped"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_libraries_say_it_in_their_own_ways(error: Exception) -> None:
    assert str(explain(error)).startswith("WriteError: A file cannot be written: ")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EROFS, "FileError: `some/file` must be writable: Read-only file system. Mount"),
        (errno.EACCES, "FileError: `some/file` must be open to you: Permission denied. Change its rights"),
        (errno.EMFILE, "FileError: `some/file` cannot be opened: Too many open files. Raise the limit"),
        (errno.ENAMETOOLONG, "FileError: `some/file` must have a shorter path: File name too long."),
        (errno.EISDIR, "FileError: `some/file` must be a file: Is a directory. Move the folder away."),
        (errno.ENOTDIR, "FileError: `some/file` must be inside folders: Not a directory."),
        (errno.ENOENT, "FileError: `some/file` must be there: No such file or directory."),
        (errno.ENXIO, "FileError: `some/file` must be a file: No such device or address. Move the pipe or socket away."),
        (errno.ELOOP, "FileError: `some/file` must lead to a file"),
        (errno.EFBIG, "FileError: `some/file` cannot be written: File too large."),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_cure(number: int, expected: str) -> None:
    error = OSError(number, os.strerror(number), "some/file")
    for seen in (error, cause(RuntimeError("wrapped"), error)):
        text = explain(seen)
        assert text is not None and text.startswith(expected) and "\n" not in text


def cause(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("I/O error: Read-only file system (os error 30)"), "FileError: A file must be writable"),
        (RuntimeError("Permission denied (os error 13)"), "FileError: A file must be open to you"),
        (RuntimeError("attempt to write a readonly database"), "FileError: A file must be writable"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "MemoryError: This step needs more memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "MemoryError: This step needs more memory"),
        (RuntimeError("can't start new thread"), "LimitError: This step needs more threads, processes"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "LimitError: This step needs more threads"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "MemoryError: This step needs more memory"),
        (MemoryError(), "MemoryError: This step needs more memory: the system gives no more."),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "FileError: A file cannot be opened"),
    ],
)
def test_libraries_that_lose_the_number(error: Exception, expected: str) -> None:
    assert str(explain(error)).startswith(expected)


def test_what_stops_inside_a_template_is_reported() -> None:
    from jinja2 import Environment

    for text in ("{{ 1 / 0 }}", "{{ x.y.z }}", "{% if %}", "{{ none + 1 }}"):
        try:
            Environment().from_string(text).render()
        except Exception as error:
            assert str(explain(error)).startswith("TemplateError: a template must render, but stops with "), text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        KeyError("x"),
        OSError("no number"),
        chained(KeyError("a bug"), RuntimeError("x")),
    ],
)
def test_everything_else_needs_its_traceback(error: Exception) -> None:
    assert explain(error) is None


def test_a_file_that_was_only_looked_for_explains_no_bug() -> None:
    bug = KeyError("a bug")
    bug.__context__ = FileNotFoundError(errno.ENOENT, "No such file", "optional.json")
    assert explain(bug) is None


def test_a_prefect_server_that_does_not_answer_is_reported() -> None:
    import httpx

    for error in (
        RuntimeError("Failed to reach API at http://u:cAnArY@h/api/"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout(""),
    ):
        text = str(explain(error))
        assert text.startswith("ServerError: `PREFECT_API_URL` must name a Prefect server that answers") and "cAnArY" not in text


def test_no_secret_is_shown() -> None:
    assert "cAnArY" not in str(explain(OSError(errno.EACCES, "Permission denied", "postgresql://u:cAnArY@h/db")))


def test_prefect_is_quiet_about_what_ends_the_command(caplog: pytest.LogCaptureFixture) -> None:
    handler = caplog.handler
    before = list(handler.filters)
    try:
        quiet_known_errors()
        log = logging.getLogger("prefect.task_runs")
        for error in (SourceError("known"), RuntimeError("a bug")):
            log.error("Task run failed with exception: %r", error, exc_info=error)
        logging.getLogger("prefect.events").error("Lost: %r", RuntimeError("a bug"), exc_info=RuntimeError("a bug"))
        log.error("Finished in state Failed('…')")
        for ending in ("an interrupt signal", "a termination signal", "Python system exit call"):
            log.error(f"Finished in state Crashed(Execution was aborted by {ending}.)")
            log.error(f"Crash detected! Execution was aborted by {ending}.")
        logging.getLogger("EventsWorker").warning("Still processing items: 1 items remaining...")
    finally:
        handler.filters[:] = before
    assert [r.getMessage() for r in caplog.records] == ["Lost: RuntimeError('a bug')"]
