"""One Prefect server for the session, and one finished smoke project that tests copy."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from sandbox import Done, Sandbox, together


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server of this session's own."""
    home = tmp_path_factory.mktemp("prefect")
    port = next(port for port in iter(lambda: random.randrange(20_000, 32_000), None) if is_free(port))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/health", process, home / "server.log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def is_free(port: int) -> bool:
    """Say whether a server may listen there. (A port the system picks may go to an outgoing connection before it does.)"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the Prefect server does not answer at {address}:\n{log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="session")
def first_runs(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Sandbox, Done], tuple[Sandbox, Done]]:
    """The pipeline from nothing in two projects: one task after another, and with two workers."""
    places = tmp_path_factory.mktemp("first")
    one, two = (Sandbox.from_repository(places / name, api=prefect_api) for name in ("one", "two"))
    done = together(lambda: one.flows("run", "pipeline"), lambda: two.flows("run", "pipeline", "-S", "runtime.workers=2"))
    return (one, done[0]), (two, done[1])


@pytest.fixture(scope="session")
def smoke(first_runs: tuple[tuple[Sandbox, Done], tuple[Sandbox, Done]]) -> Sandbox:
    """A finished project. Copy it; do not change it."""
    project, done = first_runs[0]
    assert done.code == 0, f"{done.out}\n{done.err}"
    return project


@pytest.fixture
def project(smoke: Sandbox, tmp_path: Path) -> Sandbox:
    """A finished project of the test's own."""
    return smoke.copy(tmp_path / "project")
