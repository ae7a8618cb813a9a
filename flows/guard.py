"""Top-level error handling of every command: one line on the terminal and an exit code by kind of error."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from flows.known_errors import explain
from models.errors import FusedialError
from models.redaction import redact

USER, BUG, INTERRUPTED, TERMINATED = 2, 1, 130, 143
_STOPPED = "stopped; finished shards and checkpoints are kept. The same command goes on from there."


def guarded(body: Callable[[], object]) -> None:
    """Run a command.

    Raises:
        SystemExit: 2 for an error that a user can cure, 1 for a bug (its traceback is kept in a file, whose path is shown), 130
            where it was interrupted, 143 where it was ended by SIGTERM.
    """
    with _termination_as_interrupt():
        _run(body)


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the command as an interrupt does: with its line, and with the processes that it started.

    Prefect takes the signal during a run, records the run as crashed, and sends it once more to the previous handler.
    """

    def end(*_: object) -> None:
        raise SystemExit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(body: Callable[[], object]) -> None:
    try:
        body()
    except KeyboardInterrupt:
        _tell(_STOPPED)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):  # as typer ends it, or the handler of the signal
            _tell(_STOPPED)
        raise
    except BrokenPipeError:  # the reader of the output has closed it
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BUG) from None
    except Exception as error:
        text = explain(error)
        if text is not None:
            _tell(f"error {text}")
            raise SystemExit(USER) from None
        _tell(_bug(error))
        raise SystemExit(BUG) from None


def _tell(text: str) -> None:
    first, blank, rest = text.partition(" ")
    with contextlib.suppress(OSError, ValueError):  # a closed terminal
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold red]{first}[/]" if first == "error" else first, end=blank, highlight=False)
        console.print(rest, markup=False, highlight=False)


def _bug(error: Exception) -> str:
    trace = redact("".join(traceback.format_exception(error)))
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if "site-packages" not in f.filename), frames[-1] if frames else None)
    where = f" ({Path(place.filename).name}:{place.lineno})" if place else ""
    line = redact(" ".join(f"error {type(error).__name__}: {error}".split()))[:300] + where
    kept = _keep(trace)
    if kept is None:
        return f"{trace}\n{line}. This is a bug of fusedial; please report it with the traceback above."
    return f"{line}. This is a bug of fusedial; please report it with `{kept}`, which holds the whole traceback."


def _keep(trace: str) -> Path | None:
    """Write a traceback to .cache/errors/ of the project, else to the system's temporary folder; None where neither can be."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (_project_folder(), Path(tempfile.gettempdir())):
        if folder is None:
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(trace, encoding="utf-8", errors="replace")
            return path
    return None


def _project_folder() -> Path | None:
    from tasks.workspace import cache_dir

    try:
        return cache_dir() / "errors"
    except (FusedialError, OSError):
        return None
