"""The MLflow database in a file: there and whole before anybody opens it."""

import logging
import os
from functools import partial
from pathlib import Path

from tasks.database_file import move_aside, one_at_a_time, place_database, tables
from tasks.workspace import address_root

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
