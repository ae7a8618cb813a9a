"""The first start of a Prefect server in a folder makes its database: one at a time, or both are left without one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from models.files import write_atomic
from tasks.database_file import one_at_a_time

_DATABASE = "prefect.db"


def start_ephemeral() -> None:
    """Start the Prefect server of this process, if it is to have one of its own; later clients find it running."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        return
    with first_start():
        get_client(sync_client=True)


@contextmanager
def first_start() -> Iterator[None]:
    """Hold other first starts in PREFECT_HOME back until the block ends: then the database is migrated, which is noted."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").absolute()
    database, done = home / _DATABASE, home / f"migrated-{version('prefect')}"
    if done.is_file() and database.is_file():
        yield
        return
    with one_at_a_time(database):
        yield
        if database.is_file():  # else the server keeps it elsewhere
            write_atomic(done, "")
