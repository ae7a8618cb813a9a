"""One Prefect server for the session, one finished smoke project, and scenarios in copies of it, two at a time.

A test file lists its scenarios as `SCENARIOS`: name → function of a project. Those of all selected files start together; a test
waits for its own through the fixture `outcome`.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest
from sandbox import Done, Sandbox

FirstRuns = tuple[tuple[Sandbox, Done], tuple[Sandbox, Done]]
Started = dict[tuple[ModuleType, str], Future[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; each may wait for scenarios that run before its own."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1800))


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
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
        "--no-services",
    ]
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
def first_runs(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> FirstRuns:
    """The pipeline from nothing in two projects: one task after another, and with two workers."""
    places = tmp_path_factory.mktemp("first")
    one, two = (Sandbox.from_repository(places / name, api=prefect_api) for name in ("one", "two"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.flows, "run", "pipeline")
        second = pool.submit(two.flows, "run", "pipeline", "-S", "runtime.workers=2")
    return (one, first.result()), (two, second.result())


@pytest.fixture(scope="session")
def smoke(first_runs: FirstRuns) -> Sandbox:
    """A finished project. Copy it; do not change it."""
    project, done = first_runs[0]
    assert done.code == 0, f"{done.out}\n{done.err}"
    return project


@pytest.fixture(scope="session")
def started(request: pytest.FixtureRequest, smoke: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The scenarios of all selected files, waiting or running."""
    places = tmp_path_factory.mktemp("scenarios")
    selected = dict.fromkeys(getattr(item, "module", None) for item in request.session.items)
    modules = [m for m in selected if m is not None and hasattr(m, "SCENARIOS")]
    # A file with few has the long ones: they go first, so that the two lanes end together.
    modules.sort(key=lambda m: len(m.SCENARIOS) > 1)

    def run(scenario: Callable[[Sandbox], Any], place: Path) -> Any:
        return scenario(smoke.copy(place))

    with ThreadPoolExecutor(2) as lanes:
        futures: Started = {}
        for module in modules:
            for name, scenario in module.SCENARIOS.items():
                place = places / module.__name__.rpartition(".")[2] / name.replace(" ", "-")
                place.parent.mkdir(exist_ok=True)
                futures[module, name] = lanes.submit(run, scenario, place)
        yield futures
        lanes.shutdown(cancel_futures=True)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, started: Started) -> Callable[[str], Any]:
    """`outcome(name)` waits for a scenario of this file and returns what it returned, or raises what it raised."""
    return lambda name: started[request.module, name].result()
