"""SQLite databases of other tools: made aside by one process at a time and put in place whole.

Their own first start migrates an empty file step by step: two at once, a kill or a full disk leave a database that no later start
can use.
"""

import contextlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from models.files import replacing

logger = logging.getLogger(__name__)

_SIDES = ("-journal", "-wal", "-shm")


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Keep a database's making to this process; the lock (`<name>.lock` beside it) vanishes with its holder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        yield


def place_database(path: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a database at a place of its own, then put it at `path`, where none is. Call it in `one_at_a_time`."""
    with tempfile.TemporaryDirectory(prefix="fusedial-") as folder:
        aside = Path(folder) / "made.db"
        make(aside)
        with contextlib.closing(sqlite3.connect(aside)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what lies in a log beside it does not travel
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
            connection.execute("BEGIN IMMEDIATE")  # whoever is migrating it holds it
            names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {
                name: connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{name.replace(chr(34), chr(34) * 2)}")').fetchone()[0]
                for name in names
            }
            connection.execute("ROLLBACK")
            return found
    except sqlite3.Error:
        return None
