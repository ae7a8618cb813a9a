"""What orchestration costs where nothing is to be done: `dvc repro`, a cached `run pipeline`, one cached task.

All of it in a copy of the project with the smallest profile, whose first run takes about a minute, beside a Prefect server of its
own. Seconds are CPU time of the processes (the best of a few), so that a busy machine counts little; wall time stands beside it.
"""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

from models.reporting.results import ResultRow

ROOT = Path(__file__).resolve().parent.parent
PROFILE, ROUNDS, TASKS = "smoke", 3, 100
_UP_TO_DATE = "Data and pipelines are up to date."

# In a process of its own inside the copy: the same cached step a hundred times.
_ONE_TASK = f"""
import time
from flows.cli import root
root()
from prefect import flow
from flows.context import StageContext
from tasks.alignment import vocabulary_map
ctx = StageContext.load()
names = [s.name for s in ctx.params.sources.models]
models = [ctx.input("sources", "models", name) for name in (names[0], names[-1])]
@flow(name="overhead")
def body():
    vocabulary_map(ctx.params.alignment, *models)
    started = time.process_time(), time.perf_counter()
    for _ in range({TASKS}):
        vocabulary_map(ctx.params.alignment, *models)
    print("measured", time.process_time() - started[0], time.perf_counter() - started[1])
body()
"""


class Spent(NamedTuple):
    """Seconds of a command: CPU, its children included, and wall; and what it wrote."""

    cpu: float
    wall: float
    output: str


def measure() -> list[ResultRow]:
    with tempfile.TemporaryDirectory() as folder:
        place = copy_project(Path(folder) / "project")
        with prefect_server(place) as environment:
            run([sys.executable, "-m", "flows", "run", "pipeline"], place, environment)
            run(["dvc", "commit", "--force", "--quiet"], place, environment)
            repro = best([run(["dvc", "repro"], place, environment) for _ in range(ROUNDS)])
            if _UP_TO_DATE not in repro.output:
                raise SystemExit(f"a second `dvc repro` must have nothing to do, but says: {repro.output}")
            made = artifacts(place)
            cached = best([run([sys.executable, "-m", "flows", "run", "pipeline"], place, environment) for _ in range(ROUNDS)])
            if artifacts(place) != made:
                raise SystemExit("a second run of the pipeline must be served from the cache, but made artifacts")
            line = run([sys.executable, "-c", _ONE_TASK], place, environment).output
    cpu, wall = (1000 * float(word) / TASKS for word in line.rpartition("measured ")[2].split())
    return [
        row("no-op `dvc repro`", repro.cpu, repro.wall, unit="s", target="<= 2.5 s"),
        row("cached `run pipeline`, server up", cached.cpu, cached.wall, unit="s", target="<= 10 s"),
        row("one cached task", cpu, wall, unit="ms", target="<= 15 ms"),
    ]


def row(name: str, cpu: float, wall: float, *, unit: str, target: str) -> ResultRow:
    return ResultRow(f"pipeline, {name}", cpu, unit, more={"wall": wall, "target": target, "profile": PROFILE})


def best(times: list[Spent]) -> Spent:
    return min(times, key=lambda spent: spent.cpu)


def run(command: list[str], place: Path, environment: Mapping[str, str]) -> Spent:
    """Run a command to its end; SystemExit with its output if it fails."""
    before, started = _children(), time.perf_counter()
    done = subprocess.run(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)[:80]}` failed:\n{done.stdout[-4000:]}")
    return Spent(_children() - before, time.perf_counter() - started, done.stdout)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def artifacts(place: Path) -> set[str]:
    return {path.name for path in (place / ".cache" / "artifacts").glob("*/*")}


def copy_project(place: Path) -> Path:
    """Copy what git knows or would add, as it stands, into a repository of its own; PROFILE becomes its profile."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    params = place / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("profile: embedded", f"profile: {PROFILE}"), encoding="utf-8")
    if (ROOT / "data" / "external").is_dir():
        (place / "data" / "external").symlink_to((ROOT / "data" / "external").resolve())
    who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "copy"]):
        subprocess.run(["git", *words], cwd=place, check=True, capture_output=True)
    return place


@contextlib.contextmanager
def prefect_server(place: Path) -> Iterator[dict[str, str]]:
    """Start a server for the copy and yield the environment of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "FUSEDIAL_"))}
    environment = inherited | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PREFECT_HOME": str(place / ".cache" / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    (place / ".cache").mkdir(exist_ok=True)  # Prefect makes the last folder only
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api")
        yield environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, *, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(URLError, OSError), urllib.request.urlopen(f"{address}/health", timeout=2.0):
            return
        time.sleep(0.3)
    raise SystemExit(f"the Prefect server did not answer at {address} within {timeout_s:.0f} s")
