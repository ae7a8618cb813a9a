"""`python -m flows.servers prefect mlflow | stop`: the project's own servers on loopback, started once and reused."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from flows.environment import set_environment
from tasks.workspace import project_root

ADDRESSES = {"prefect": "http://127.0.0.1:4200", "mlflow": "http://127.0.0.1:5000"}
HEALTH = {"prefect": "/api/health", "mlflow": "/health"}


def ensure(name: str, *, timeout_s: float = 120.0) -> str:
    """Return the address of the server `name`, starting it if none answers there.

    Raises:
        RuntimeError: It did not come up; the message names its log.
    """
    root = project_root()
    set_environment(root)
    address = ADDRESSES[name]
    if answers(name):
        return address
    log = root / ".cache" / f"{name}-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(name, root), stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    _pid_file(root, name).write_text(str(process.pid), encoding="utf-8")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answers(name):
            return address
        if process.poll() is not None:
            raise RuntimeError(f"the {name} server stopped with code {process.returncode}; see {log}.")
        time.sleep(0.3)
    raise RuntimeError(f"the {name} server did not answer at {address} within {timeout_s:.0f} s; see {log}.")


def command(name: str, root: Path) -> list[str]:
    """Return the command line of a server."""
    host, port = ADDRESSES[name].removeprefix("http://").split(":")
    if name == "prefect":
        return [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port]
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    place = (root / "mlartifacts").as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", port),
        *("--backend-store-uri", store, "--default-artifact-root", place, "--workers", "1"),
    ]


def answers(name: str) -> bool:
    """Say whether the server is up."""
    try:
        with urllib.request.urlopen(ADDRESSES[name] + HEALTH[name], timeout=2.0) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def stop() -> list[str]:
    """Stop the servers this project started; return their names."""
    root, stopped = project_root(), []
    for name in ADDRESSES:
        file = _pid_file(root, name)
        if not file.is_file():
            continue
        try:
            os.killpg(int(file.read_text(encoding="utf-8")), signal.SIGTERM)
            stopped.append(name)
        except ProcessLookupError:
            pass  # it ended by itself
        file.unlink()
    return stopped


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
    main(sys.argv[1:] or ["prefect", "mlflow"])
