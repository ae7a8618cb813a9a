"""Runs of MLflow: found by tags or made, and ended with the process that owns them, however that ends.

A run is found by its tags, never by the active run (which is per thread): every DVC stage is a separate process, and tasks may
run in threads or workers.
"""

import functools
import getpass
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from models.errors import TrackingError
from models.params.runtime import Tracking
from models.redaction import redacted, register_address
from tasks.caching import Execution
from tasks.database_file import own_database
from tasks.tracking_log import flatten, log_params, run_title, safe_name, safe_tags
from tasks.tracking_store import open_client
from tasks.workspace import cache_dir, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)

NAME, OUTPUT, PARENT, KEY, OWNER = "fusedial.name", "fusedial.output", "mlflow.parentRunId", "fusedial.key", "fusedial.owner"


@functools.cache
def this_process() -> str:
    """Return the identity of this process among all of all machines."""
    import psutil

    return safe_name(f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}")


@dataclass(frozen=True)
class ParentRun:
    """The run of one pipeline execution, which is found by its key, or made of the rest.

    Attributes:
        key: Digest of params and commit: the same pipeline in several processes shares one parent.
        name: Readable run name.
        params: Nested params; logged flat and as an artifact.
        tags: Provenance; children have them, too.
        note: Shown as the run's description.
    """

    key: str
    name: str
    params: Mapping[str, Any] = field(repr=False)
    tags: Mapping[str, str]
    note: str


@dataclass(frozen=True)
class StageRun(Execution):
    """Address of a stage's run: found or created by (parent, name) in whatever process needs it.

    Its parent has an id, or is found or made as soon as there is something to put below it.
    """

    uri: str = field(repr=False)  # may hold a password
    experiment: str
    parent_id: str
    name: str
    progress: bool = True
    log_every: int = 5
    owner: str = field(default_factory=this_process)
    parent: ParentRun | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it is recorded."""
        return (self.uri,)


def tracking_uri(tracking: Tracking) -> str:
    """Return the MLflow URI: params, then MLFLOW_TRACKING_URI, then mlflow.db in the project.

    Its password, if it has one, is known from then on to whatever logs or shows text.
    """
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or own_database(project_root())
    register_address(uri)
    return uri


def client_of(uri: str) -> "MlflowClient":
    """Return a client of the store whose errors are explained."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It logs a database's error with its traceback before it raises it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return open_client(uri)


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, which is made where there is none."""
    return _experiment_at(str(client.tracking_uri), name)


@functools.cache  # an experiment keeps its id, and every stage asks for it several times
def _experiment_at(uri: str, name: str) -> str:
    client = client_of(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = None if uri.startswith("http") else (project_root() / "mlartifacts" / name).as_uri()
        try:
            return client.create_experiment(name, artifact_location=place)
        except TrackingError:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The experiment `{name}` of `{uri}` must be active, but was deleted. Restore it: "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`; or remove it for good: "
            f"`mlflow gc --backend-store-uri URI --experiment-ids {found.experiment_id}`."
        )
    _end_orphans(client, str(found.experiment_id))
    return str(found.experiment_id)


def search(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> "Run | None":
    """Return the youngest run of an experiment (its id) that has the tags."""
    # Values without quotes: digests, ids, and names from `safe_name`.
    query = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
    runs = client.search_runs([experiment], filter_string=query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


def open_parent(uri: str, experiment: str, parent: ParentRun, *, owner: str = "", create: bool = True) -> str:
    """Find or make the run of a pipeline execution, which then runs until its owner ends it; "" where none is to be made."""
    client = client_of(uri)
    place, owner = experiment_id(client, experiment), owner or this_process()
    with _one_creator():
        found = search(client, place, {KEY: safe_name(parent.key)})
        if found is not None:
            _take(client, found, uri, place, owner)
            return str(found.info.run_id)
        if not create:
            return ""
        tags = {"mlflow.note.content": parent.note, **_source(), **parent.tags}
        kept = {KEY: safe_name(parent.key), NAME: "pipeline", OWNER: owner, **safe_tags(tags)}
        run_id = str(client.create_run(place, run_name=run_title(parent.name), tags=kept).info.run_id)
    _OPEN.setdefault((uri, place), set()).add(owner)
    shown = redacted(parent.params)
    log_params(client, run_id, flatten(shown))
    client.log_dict(run_id, shown, "params.json")
    return run_id


def child_run(client: "MlflowClient", run: StageRun, *, create: bool) -> "Run | None":
    """Return the run of a stage below its parent; one that is made runs until `finish_stage` or its owner ends it."""
    place, name = experiment_id(client, run.experiment), safe_name(run.name)
    parent_id = parent_of(run, create=create)
    if not parent_id:
        return None
    with _one_creator():
        found = search(client, place, {PARENT: parent_id, NAME: name})
        if found is not None or not create:
            if found is not None and create:
                _take(client, found, run.uri, place, run.owner)
            return found
        about = dict(run.parent.tags) if run.parent is not None else {}
        tags = {PARENT: parent_id, NAME: name, OWNER: run.owner, **safe_tags({"dvc.stage": run.name, **_source(), **about})}
        made = client.create_run(place, run_name=run_title(run.name), tags=tags)
    _OPEN.setdefault((run.uri, place), set()).add(run.owner)
    return made


# (uri, experiment, key) → id of a parent that this process has opened.
_PARENTS: dict[tuple[str, str, str], str] = {}


def parent_of(run: StageRun, *, create: bool) -> str:
    """Return the id of the run above; "" where there is none and none is to be made: a cached stage opens no empty one."""
    if run.parent_id or run.parent is None:
        return run.parent_id
    key = (run.uri, run.experiment, run.parent.key)
    if key not in _PARENTS and (found := open_parent(run.uri, run.experiment, run.parent, owner=run.owner, create=create)):
        _PARENTS[key] = found
    return _PARENTS.get(key, "")


def _source() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = "unknown"
    return {"mlflow.source.name": "python -m flows", "mlflow.source.type": "LOCAL", "mlflow.user": user}


def _take(client: "MlflowClient", found: "Run", uri: str, place: str, owner: str) -> None:
    """Let a run that ended, or whose process died, go on as the owner's; leave one that another process is at."""
    _OPEN.setdefault((uri, place), set()).add(owner)
    if found.info.status == "RUNNING" and found.data.tags.get(OWNER) == owner:
        return
    if found.info.status == "RUNNING" and _is_alive(found.data.tags.get(OWNER, "")):
        return
    client.set_tag(found.info.run_id, OWNER, owner)
    client.update_run(found.info.run_id, status="RUNNING")


def _one_creator() -> FileLock:
    """Return the lock under which a run is looked for and, if there is none, made: of two processes, one makes it."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "tracking.lock")


# (uri, experiment) → owners of runs that this process has opened there.
_OPEN: dict[tuple[str, str], set[str]] = {}


@contextmanager
def runs_ended() -> Iterator[None]:
    """End the runs that this process and its workers have left open: finished, or failed or killed as the block ends."""
    try:
        yield
    except BaseException as error:
        with _without_hiding(error):
            end_runs("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    end_runs("FINISHED")


@contextmanager
def _without_hiding(error: BaseException) -> Iterator[None]:
    try:
        yield
    except (TrackingError, OSError) as second:
        _log.warning("MLflow runs stay open behind a %s: %s", type(error).__name__, second)


def end_runs(status: str) -> None:
    """Give every run that this process has opened, and that still runs, its end."""
    for (uri, place), owners in list(_OPEN.items()):
        client = client_of(uri)
        for owner in owners:
            for run in client.search_runs([place], filter_string=f"attributes.status = 'RUNNING' and tags.`{OWNER}` = '{owner}'"):
                client.set_terminated(run.info.run_id, status=status)
    _OPEN.clear()
    _PARENTS.clear()


def _end_orphans(client: "MlflowClient", place: str) -> None:
    """Mark as killed what a process of this machine had open when it was killed; nobody else can."""
    for run in client.search_runs([place], filter_string="attributes.status = 'RUNNING'"):
        owner = run.data.tags.get(OWNER, "")
        if owner.startswith(f"{safe_name(socket.gethostname())}:") and not _is_alive(owner):
            client.set_terminated(run.info.run_id, status="KILLED")


def _is_alive(owner: str) -> bool:
    """Say whether the owner of a run may still be at work; of another machine's process nothing is known."""
    import psutil

    host, _, rest = owner.partition(":")
    pid, _, created = rest.partition(":")
    if host != safe_name(socket.gethostname()) or not (pid.isdigit() and created.isdigit()):
        return bool(owner)
    try:
        return int(psutil.Process(int(pid)).create_time()) == int(created)
    except psutil.Error:
        return False
