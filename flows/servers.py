"""`python -m flows.servers prefect mlflow | stop`: the project's own servers on loopback, started once and reused."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError

import psutil
from filelock import FileLock

from flows.environment import set_environment
from flows.guard import guarded
from models.errors import FusedialError
from models.files import read_record, write_atomic
from tasks.database_file import make_ready, one_at_a_time, own_database
from tasks.workspace import project_root

_DATABASE = "prefect.db"


def start_ephemeral() -> None:
    """Start the Prefect server of this process, if it uses an ephemeral one; later clients find it running."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        return
    with first_start():
        get_client(sync_client=True)


@contextmanager
def first_start() -> Iterator[None]:
    """Make other first starts in PREFECT_HOME wait until the block ends: by then the database is migrated, which is recorded."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").absolute()
    database, done = home / _DATABASE, home / f"migrated-{version('prefect')}"
    if done.is_file() and database.is_file():
        yield
        return
    with one_at_a_time(database):
        yield
        if database.is_file():  # else the server keeps it elsewhere
            write_atomic(done, "")


ADDRESSES = {"prefect": "http://127.0.0.1:4200", "mlflow": "http://127.0.0.1:5000"}
HEALTH = {"prefect": "/api/health", "mlflow": "/health"}
_SAME_START_S = 1.0  # a corrected clock moves the start of all processes a little
_PATIENCE_S = 10.0


def ensure(name: str, *, timeout_s: float = 120.0) -> str:
    """Return the address of the server `name`, starting it if none answers there; of two concurrent callers, one starts it.

    Raises:
        FusedialError: It did not come up; the message names its log.
    """
    root = project_root()
    set_environment(root)
    if answers(name):
        return ADDRESSES[name]
    (root / ".cache").mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".cache" / f"{name}-server.lock"):
        if not answers(name):  # else the previous holder of the lock has started it
            if name == "mlflow":
                make_ready(store(name, root)["MLFLOW_BACKEND_STORE_URI"])
            with first_start() if name == "prefect" else nullcontext():
                _start(name, root, timeout_s=timeout_s)
    return ADDRESSES[name]


def _start(name: str, root: Path, *, timeout_s: float) -> None:
    log = root / ".cache" / f"{name}-server.log"
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | store(name, root)
    words = command(name, root)
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    started = {"pid": process.pid, "created": psutil.Process(process.pid).create_time(), "command": words}
    write_atomic(_pid_file(root, name), json.dumps(started))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answers(name):
            return
        if process.poll() is not None:
            raise FusedialError(f"The {name} server must run, but stopped with code {process.returncode}. See {log}.")
        time.sleep(0.3)
    raise FusedialError(f"The {name} server must answer at {ADDRESSES[name]}, but did not within {timeout_s:.0f} s. See {log}.")


def command(name: str, root: Path) -> list[str]:
    """Return the command line of a server."""
    host, port = ADDRESSES[name].removeprefix("http://").split(":")
    if name == "prefect":
        return [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", port),
        *("--default-artifact-root", (root / "mlartifacts").as_uri(), "--workers", "1"),
    ]


def store(name: str, root: Path) -> dict[str, str]:
    """Return the variables that locate a server's database: command lines are public, and an address may hold a password."""
    if name != "mlflow":
        return {}
    return {"MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_TRACKING_URI") or own_database(root)}


def answers(name: str) -> bool:
    """Say whether the server is up."""
    try:
        with urllib.request.urlopen(ADDRESSES[name] + HEALTH[name], timeout=2.0) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def stop() -> list[str]:
    """Stop the servers this project started; return their names. A process that merely reuses a pid is left alone."""
    root, stopped = project_root(), []
    for name in ADDRESSES:
        file = _pid_file(root, name)
        process = _ours(file)
        if process is not None:
            _end(process)
            stopped.append(name)
        if file.is_file():
            file.unlink(missing_ok=True)
    return stopped


def _ours(file: Path) -> psutil.Process | None:
    """Return the process that a pid file names, if it is the one that was started: same start, same command line."""
    row = read_record(file) or {}
    pid, created, words = row.get("pid"), row.get("created"), row.get("command")
    if type(pid) is not int or pid <= 0 or not isinstance(created, float):
        return None
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < _SAME_START_S and process.cmdline() == words
        return process if same and process.is_running() and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError):
        return None


def _end(process: psutil.Process) -> None:
    """End a server and what it has started; it leads its own session."""
    with suppress(psutil.Error, OSError):
        group = os.getpgid(process.pid) == process.pid
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if group:
                os.killpg(process.pid, sign)
            else:
                process.send_signal(sign)
            with suppress(psutil.TimeoutExpired):
                process.wait(_PATIENCE_S)
                return


def _pid_file(root: Path, name: str) -> Path:
    return root / ".cache" / f"{name}-server.pid"


def main(words: list[str]) -> None:
    """Start the named servers, or stop all."""
    if words == ["stop"]:
        sys.stdout.write(f"stopped: {', '.join(stop()) or 'none was running'}\n")
        return
    for name in words:
        sys.stdout.write(f"{name:8s}{ensure(name)}\n")


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:] or ["prefect", "mlflow"]))
