"""First starts of Prefect in one folder come one after the other; later ones do not wait."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from flows import servers
from flows.servers import first_start
from models.errors import FusedialError
from tasks import workspace


def test_first_starts_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    inside, most, starts = [0], [0], [0]
    guard, barrier = threading.Lock(), threading.Barrier(5)

    def start() -> None:
        barrier.wait()
        with first_start():
            with guard:
                inside[0] += 1
                starts[0] += 1
                most[0] = (
                    max(most[0], inside[0]) if starts[0] == 1 or not (tmp_path / "home" / "prefect.db").exists() else most[0]
                )
            (tmp_path / "home" / "prefect.db").write_text("migrated")
            with guard:
                inside[0] -= 1

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert starts == [5] and most == [1]
    assert (tmp_path / "home" / f"migrated-{version('prefect')}").is_file()


def test_a_first_start_that_fails_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(RuntimeError), first_start():
        (tmp_path / "prefect.db").write_text("half")
        raise RuntimeError
    assert not (tmp_path / f"migrated-{version('prefect')}").exists()


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(servers, "set_environment", lambda root: "")
    monkeypatch.setattr(servers, "_PATIENCE_S", 3.0)
    workspace.project_root.cache_clear()
    (tmp_path / ".cache").mkdir()
    yield tmp_path
    workspace.project_root.cache_clear()


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def pid_file(project: Path) -> Path:
    return project / ".cache" / "prefect-server.pid"


def row(process: psutil.Process) -> dict[str, object]:
    return {"pid": process.pid, "created": process.create_time(), "command": process.cmdline()}


def test_what_was_started_is_stopped(project: Path, sleeper: psutil.Process) -> None:
    pid_file(project).write_text(json.dumps(row(sleeper)))
    assert servers.stop() == ["prefect"] and servers.stop() == []
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE
    assert not pid_file(project).exists()


@pytest.mark.parametrize("change", [{"created": 1.0}, {"command": ["other"]}, {"command": None}, {"created": None}])
def test_a_process_with_the_same_number_is_left_alone(project: Path, sleeper: psutil.Process, change: dict[str, object]) -> None:
    pid_file(project).write_text(json.dumps(row(sleeper) | change))
    assert servers.stop() == [] and sleeper.is_running() and sleeper.status() != psutil.STATUS_ZOMBIE
    assert not pid_file(project).exists()


@pytest.mark.parametrize(
    "text",
    ["", "x", "null", "[]", "{}", "\x00\x00", "-1", "0", '{"pid": 0}', '{"pid": -1, "created": 1.0}', "99999999999999999999"],
)
def test_a_malformed_pid_file_is_ignored(project: Path, text: str) -> None:
    pid_file(project).write_text(text)
    assert servers.stop() == []


def test_a_bare_number_stops_nobody(project: Path, sleeper: psutil.Process) -> None:
    pid_file(project).write_text(str(sleeper.pid))
    assert servers.stop() == [] and sleeper.is_running()
    pid_file(project).mkdir()
    assert servers.stop() == []


def test_two_starts_at_once_start_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = project / "started"
    words = [sys.executable, "-c", f"open({str(started)!r}, 'a').write('x'); import time; time.sleep(60)"]
    monkeypatch.setattr(servers, "command", lambda name, root: words)
    monkeypatch.setattr(servers, "answers", lambda name: started.exists())
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(servers.ensure("prefect", timeout_s=20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.05)
    assert found == [servers.ADDRESSES["prefect"]] * 4 and started.read_text() == "x"
    assert servers.stop() == ["prefect"]


def test_a_server_that_exits_is_reported_with_its_log(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "command", lambda name, root: [sys.executable, "-c", "raise SystemExit(7)"])
    monkeypatch.setattr(servers, "answers", lambda name: False)
    with pytest.raises(FusedialError, match=r"stopped with code 7.*prefect-server\.log"):
        servers.ensure("prefect", timeout_s=20)


def test_no_address_stands_in_a_command_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:cAnArY@h/db")
    assert "cAnArY" not in " ".join(servers.command("mlflow", project))
    assert servers.store("mlflow", project) == {"MLFLOW_BACKEND_STORE_URI": "postgresql://u:cAnArY@h/db"}
    assert servers.store("prefect", project) == {} and os.environ.get("MLFLOW_BACKEND_STORE_URI") is None
