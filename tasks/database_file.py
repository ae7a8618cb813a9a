"""SQLite databases of other tools, MLflow's among them: created by one process at a time in a temporary file, then renamed."""

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from filelock import FileLock

from models.files import replacing
from tasks.workspace import address_root

logger = logging.getLogger(__name__)

_SIDES = ("-journal", "-wal", "-shm")


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let only this process create the database; the lock (`<name>.lock` in the same folder) vanishes with its holder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        yield


def place_database(path: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a database under a temporary name, then move it to `path`. Call it in `one_at_a_time`."""
    with tempfile.TemporaryDirectory(prefix="fusedial-") as folder:
        aside = Path(folder) / "made.db"
        make(aside)
        with contextlib.closing(sqlite3.connect(aside)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is in its log would not be moved
            connection.execute("PRAGMA journal_mode=DELETE")
        for side in _SIDES:  # SQLite would apply a dead database's journal to this one
            path.with_name(path.name + side).unlink(missing_ok=True)
        with replacing(path) as temporary:
            shutil.copyfile(aside, temporary)


def move_aside(path: Path, *, why: str) -> Path:
    """Rename a database that cannot be used, and say so; nothing is deleted."""
    number = 1
    while (kept := path.with_name(f"{path.name}.unfinished-{number}")).exists():
        number += 1
    path.rename(kept)
    for side in _SIDES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(kept.with_name(kept.name + side))
    logger.warning("`%s` %s. It was moved to `%s`, and a fresh one is made.", path, why, kept)
    return kept


def tables(path: Path) -> dict[str, int] | None:
    """Return the tables of a database: 1 for those that have rows, 0 for the others; None where it is none or is in use."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=2.0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # a process that migrates it holds this lock
            names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {
                name: connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{name.replace(chr(34), chr(34) * 2)}")').fetchone()[0]
                for name in names
            }
            connection.execute("ROLLBACK")
            return found
    except sqlite3.Error:
        return None


_ready: dict[Path, tuple[int, int]] = {}
_EXPERIMENTS = "experiments"


def own_database(root: Path) -> str:
    """Return the address of the database of a project that names no other."""
    return f"sqlite:///{address_root(root) / 'mlflow.db'}"


def make_ready(uri: str) -> None:
    """Make the database of `sqlite:///…` if there is none, one process at a time, and put it in place whole.

    A file in which an earlier first start was cut off (it has no experiment, not even the one that every finished database has)
    is moved aside with a line in the log. Any other file, and any other store, is left to MLflow.
    """
    path = _file_of(uri)
    if path is None or _ready.get(path, ()) == _identity(path):
        return
    with one_at_a_time(path):
        if not _finished(path):
            place_database(path, partial(_make, artifacts=path.parent / "mlartifacts"))
    _ready[path] = _identity(path) or (0, 0)


def _file_of(uri: str) -> Path | None:
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name).absolute()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _finished(path: Path) -> bool:
    """Say whether to leave a file to MLflow; one that was cut off goes aside."""
    if not os.path.lexists(path) or (path.is_file() and path.stat().st_size == 0):
        return False
    found = tables(path)
    if found is None or found.get(_EXPERIMENTS):
        return True
    if not found:
        return False
    if _EXPERIMENTS in found or all(name in _known() or name.startswith("alembic_") for name in found):
        move_aside(path, why="was being made when its process ended, and holds no run")
        return False
    return True


def _known() -> set[str]:
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as First

    return set(Base.metadata.tables) | set(First.metadata.tables)


def _make(place: Path, *, artifacts: Path) -> None:
    """Migrate an empty file and give it the experiment that MLflow's first start gives it."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # As an address: MLflow writes the place into its SQL as it is, where a quote would end the text.
    store = SqlAlchemyStore(f"sqlite:///{place}", artifacts.as_uri())
    store._dispose_engine()
