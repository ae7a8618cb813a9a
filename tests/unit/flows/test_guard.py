"""How commands end: one line, and a code that says whose fault it is."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import guard
from flows.guard import guarded
from models.errors import SourceError

pytestmark = pytest.mark.usefixtures("project")


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def ends(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        guarded(raising(error))
    return end.value.code, capsys.readouterr().err


def test_what_a_user_can_cure_is_a_line_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(SourceError("No [such] model."), capsys) == (2, "error SourceError: No [such] model.\n")
    code, printed = ends(OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), capsys)
    assert code == 2 and printed.startswith("error FileError: `/x` must be writable") and printed.count("\n") == 1


def test_a_bug_is_a_line_with_the_place_of_its_traceback_and_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = ends(KeyError("http://u:cAnArY@h"), capsys)
    (kept,) = (project / ".cache" / "errors").iterdir()
    assert (
        code == 1 and printed.count("\n") == 1 and str(kept) in printed and "KeyError" in printed and "test_guard.py" in printed
    )
    text = kept.read_text()
    assert text.startswith("Traceback (most recent call last)") and "cAnArY" not in text + printed


def test_a_traceback_is_never_hidden(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".cache").write_text("in the way")
    monkeypatch.setattr(guard.tempfile, "gettempdir", lambda: "/proc/none")
    code, printed = ends(KeyError("x"), capsys)
    assert code == 1 and "Traceback (most recent call last)" in printed


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupt_is_a_line_and_130(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = ends(error, capsys)
    assert code == 130 and printed.startswith("stopped; finished shards") and printed.count("\n") == 1


@pytest.mark.parametrize("inside_a_run", [False, True])
def test_a_termination_is_a_line_and_143(inside_a_run: bool, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.utilities.engine import capture_sigterm

    def body() -> None:
        with capture_sigterm() if inside_a_run else contextlib.nullcontext():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        guarded(body)
    printed = capsys.readouterr().err
    assert end.value.code == 143 and printed.startswith("stopped; finished shards") and printed.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_exits_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(SystemExit(3), capsys) == (3, "")
    guarded(lambda: None)
