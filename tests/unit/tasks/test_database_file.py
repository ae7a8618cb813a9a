"""The MLflow database is whole or absent: first starts at once, a failure in the middle, and what earlier ones left."""

import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tasks import database_file
from tasks.database_file import make_ready

SCHEMA = ("CREATE TABLE alembic_version (v)", "CREATE TABLE experiments (id)", "CREATE TABLE runs (id)")


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM experiments").fetchone() == (1,)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """MLflow's migration, in short."""
    places: list[Path] = []

    def make(place: Path, *, artifacts: Path) -> None:
        places.append(place)
        run(place, "PRAGMA journal_mode=WAL", *SCHEMA, "INSERT INTO experiments VALUES (0)")

    monkeypatch.setattr(database_file, "_make", make)
    monkeypatch.setattr(database_file, "_known", lambda: {"experiments", "runs", "metrics"})
    monkeypatch.setattr(database_file, "_ready", {})
    return places


def test_one_of_many_first_starts_makes_the_database(tmp_path: Path, made: list[Path]) -> None:
    path, failed = tmp_path / "sub" / "mlflow.db", list[BaseException]()
    barrier = threading.Barrier(6)

    def start() -> None:
        barrier.wait()
        try:
            database_file._ready.clear()
            make_ready(f"sqlite:///{path}")
            assert whole(path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(made) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("end", ["error", "kill"])
def test_a_first_start_that_fails_half_way_leaves_nothing(
    tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path, make = tmp_path / "mlflow.db", database_file._make

    def fail(place: Path, *, artifacts: Path) -> None:
        run(place, *SCHEMA)
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database_file, "_make", fail)
    if end == "kill":
        child = os.fork()
        if child == 0:
            make_ready(f"sqlite:///{path}")
        os.waitpid(child, 0)
    else:
        with pytest.raises(sqlite3.OperationalError):
            make_ready(f"sqlite:///{path}")
    assert not path.exists()
    monkeypatch.setattr(database_file, "_make", make)
    make_ready(f"sqlite:///{path}")
    assert whole(path)


@pytest.mark.parametrize("left", [SCHEMA, SCHEMA[:1], SCHEMA[1:], ("CREATE TABLE metrics (x)", SCHEMA[0]), (), ("file",)])
def test_leftovers_of_an_interrupted_start_are_moved_aside(
    tmp_path: Path, made: list[Path], caplog: pytest.LogCaptureFixture, left: tuple[str, ...]
) -> None:
    path = tmp_path / "mlflow.db"
    if left == ("file",):
        path.touch()
    else:
        run(path, *left)
    (tmp_path / "mlflow.db-journal").write_bytes(b"")
    make_ready(f"sqlite:///{path}")
    assert whole(path) and len(made) == 1
    aside = [p.name for p in tmp_path.iterdir() if "unfinished" in p.name and "journal" not in p.name]
    assert aside == (["mlflow.db.unfinished-1"] if len(left) > 0 and left != ("file",) else [])
    assert ("moved to" in caplog.text) == bool(aside)


@pytest.mark.parametrize(
    "content",
    [(*SCHEMA, "INSERT INTO experiments VALUES (0)"), ("CREATE TABLE somebody_elses (x)",), b"no database" * 99],
)
def test_other_files_are_left_to_mlflow(tmp_path: Path, made: list[Path], content: tuple[str, ...] | bytes) -> None:
    path = tmp_path / "mlflow.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        run(path, *content)
    before = path.read_bytes()
    make_ready(f"sqlite:///{path}")
    assert path.read_bytes() == before and not made


def test_a_database_that_another_process_is_migrating_is_left_alone(tmp_path: Path, made: list[Path]) -> None:
    path = tmp_path / "mlflow.db"
    run(path, *SCHEMA)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        make_ready(f"sqlite:///{path}")
        other.execute("ROLLBACK")
    assert not made and path.exists()


@pytest.mark.parametrize("uri", ["http://h", "postgresql://h/db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_stores_that_are_not_files_are_left_alone(made: list[Path], uri: str) -> None:
    make_ready(uri)
    assert not made


def test_a_deleted_database_is_made_again(tmp_path: Path, made: list[Path]) -> None:
    path = tmp_path / "mlflow.db"
    for _ in range(2):
        make_ready(f"sqlite:///{path}")
        make_ready(f"sqlite:///{path}")
        assert whole(path)
        path.unlink()
    assert len(made) == 2
