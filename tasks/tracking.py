"""The only module (with release.py) that talks to MLflow: a parent run per pipeline, a child per stage and method.

Runs are found by tags, never by the active run (which is per thread): every DVC stage is a separate process, and tasks
may run in threads or workers. A stage whose work was cached links the run that did it instead of opening an empty one.
"""

import functools
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from models.errors import TrackingError
from models.params.runtime import Runtime, Tracking
from models.redaction import redacted, register_address
from tasks.caching import Execution
from tasks.database_file import own_database
from tasks.tracking_log import flatten, log_metrics, log_params, metric_key, replay, run_title, safe_name, safe_tags
from tasks.tracking_store import open_client
from tasks.workspace import cache_dir, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_NAME, _OUTPUT, _PARENT = "fusedial.name", "fusedial.output", "mlflow.parentRunId"


@dataclass(frozen=True)
class StageRun(Execution):
    """Address of a stage's run: found or created by (parent, name) in whatever process needs it."""

    uri: str = field(repr=False)  # may hold a password
    experiment: str
    parent_id: str
    name: str
    progress: bool = True
    log_every: int = 5

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


def _client(uri: str) -> "MlflowClient":
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It logs a database's error with its traceback before it raises it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return open_client(uri)


def _experiment(client: "MlflowClient", name: str) -> str:
    return _experiment_at(str(client.tracking_uri), name)


@functools.cache  # an experiment keeps its id, and every stage asks for it several times
def _experiment_at(uri: str, name: str) -> str:
    client = _client(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = (project_root() / "mlartifacts" / name).as_uri() if not _is_server(client) else None
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
    return str(found.experiment_id)


def _is_server(client: "MlflowClient") -> bool:
    return str(client.tracking_uri).startswith("http")


def _search(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> "Run | None":
    # Values without quotes: digests, ids, and names from `safe_name`.
    query = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
    runs = client.search_runs([experiment], filter_string=query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


def parent_run(
    tracking: Tracking, *, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str], note: str
) -> str:
    """Find or create the run of one pipeline execution.

    Args:
        tracking: Where MLflow is.
        experiment: `fusion` or `dialogue`.
        name: Readable run name.
        key: Digest of params and commit: the same pipeline in several processes shares one parent.
        params: Nested params; logged flat and as an artifact.
        tags: Provenance.
        note: Shown as the run's description.

    Returns:
        The run id.
    """
    client = _client(tracking_uri(tracking))
    place = _experiment(client, experiment)
    with _one_creator():
        found = _search(client, place, {"fusedial.key": safe_name(key)})
        if found is not None:
            return str(found.info.run_id)
        tags_of_run = {"mlflow.note.content": note, **tags}
        kept = {"fusedial.key": safe_name(key), _NAME: "pipeline", **safe_tags(tags_of_run)}
        run = client.create_run(place, run_name=run_title(name), tags=kept)
    run_id = str(run.info.run_id)
    shown = redacted(params)
    log_params(client, run_id, flatten(shown))
    client.log_dict(run_id, shown, "params.json")
    return run_id


def _child(client: "MlflowClient", run: StageRun, *, create: bool) -> str | None:
    place, name = _experiment(client, run.experiment), safe_name(run.name)
    with _one_creator():
        found = _search(client, place, {_PARENT: run.parent_id, _NAME: name})
        if found is not None:
            return str(found.info.run_id)
        if not create:
            return None
        tags = {_PARENT: run.parent_id, _NAME: name, **safe_tags({"dvc.stage": run.name})}
        return str(client.create_run(place, run_name=run_title(run.name), tags=tags).info.run_id)


def _one_creator() -> FileLock:
    """Return the lock under which a run is looked for and, if there is none, made: of two processes, one makes it."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "tracking.lock")


class RunSink:
    """A MetricsSink over an MLflow run, a terminal bar with rate and time left, and a Prefect progress artifact."""

    def __init__(self, run: StageRun, *, runtime: Runtime, label: str) -> None:
        """Open nothing yet: the run appears with its first metric."""
        self._run, self._label, self._show = run, label, run.progress and runtime.progress
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = self._shown = time.monotonic()
        self._bar: Any = None
        self._bar_for, self._bar_done = (0, ""), 0
        self._artifact: Any = None

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Buffer the metrics; they reach MLflow every two seconds and at `close`."""
        now = int(time.time() * 1000)
        self._buffer += [(metric_key(name), float(value), now, step) for name, value in metrics.items()]
        if time.monotonic() - self._flushed > 2.0:
            self.flush()

    def flush(self) -> None:
        if not self._buffer:
            return
        from mlflow.entities import Metric

        if self._client is None:
            self._client = _client(self._run.uri)
            self._run_id = _child(self._client, self._run, create=True) or ""
        rows = [Metric(*row) for row in self._buffer]
        for start in range(0, len(rows), 500):
            self._client.log_batch(self._run_id, metrics=rows[start : start + 500])
        self._buffer.clear()
        self._flushed = time.monotonic()

    def progress(self, done: int, total: int, *, unit: str) -> None:
        """Move the bar; about once in two seconds also the progress artifact of the Prefect UI."""
        if self._show:
            self._move_bar(done, total, unit)
        if time.monotonic() - self._shown > 2.0 or done >= total:
            self._shown = time.monotonic()
            self._tell_prefect(100.0 * done / max(total, 1))

    def _move_bar(self, done: int, total: int, unit: str) -> None:
        from tqdm import tqdm

        if self._bar is None or self._bar_for != (total, unit):
            self._close_bar()
            self._bar_for, self._bar_done = (total, unit), 0
            # disable=None: no bar where the output is not a terminal.
            self._bar = tqdm(total=total, unit=unit, desc=self._label, disable=None, leave=False, dynamic_ncols=True)
        self._bar.update(done - self._bar_done)
        self._bar_done = done

    def _tell_prefect(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import TaskRunContext

        if TaskRunContext.get() is None:
            return
        percent = min(percent, 100.0)
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, description=self._label)
        else:
            update_progress_artifact(self._artifact, percent)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        """Send what is buffered and remove the bar."""
        self.flush()
        self._close_bar()

    def __enter__(self) -> "RunSink":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def finish_stage(
    run: StageRun,
    *,
    output: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    history: Path | None = None,
    files: Iterable[Path] = (),
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    """Close a stage's run, or link the run that produced the same output before.

    Args:
        run: Address of the stage's run.
        output: Digest of the stage's output.
        params: Params that make this stage (dotted), logged as params.
        metrics: Final figures, logged once (`final/…`).
        history: JSON lines {step, …} of training curves; what the run lacks of them is replayed (all, where this database has
            never seen the run; the last seconds before a kill, which were still buffered).
        files: Files shown with the run (plots, tables).
        tags: More tags.
        status: MLflow status to end with.

    Returns:
        The run id.
    """
    client = _client(run.uri)
    run_id = _child(client, run, create=False)
    if run_id is None:
        before = _search(client, _experiment(client, run.experiment), {_NAME: safe_name(run.name), _OUTPUT: safe_name(output)})
        if before is not None:
            run_id = str(before.info.run_id)
            client.set_tag(run.parent_id, safe_name(f"linked.{run.name}"), run_id)
            log_metrics(client, run_id, {k: v for k, v in metrics.items() if metric_key(k) not in before.data.metrics})
            return run_id
        run_id = _child(client, run, create=True) or ""
    if history is not None and history.is_file():
        replay(client, run_id, history)
    for key, value in {_OUTPUT: safe_name(output), **safe_tags(tags or {})}.items():
        client.set_tag(run_id, key, value)
    log_params(client, run_id, params)
    log_metrics(client, run_id, metrics)
    for file in files:
        client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, status=status)
    return run_id


def finish_parent(run_id: str, *, tracking: Tracking, metrics: Mapping[str, float], files: Iterable[Path] = ()) -> None:
    """Log the pipeline's headline figures on the parent run and end it."""
    client = _client(tracking_uri(tracking))
    log_metrics(client, run_id, metrics)
    for file in files:
        client.log_artifact(run_id, str(file))
    client.set_terminated(run_id)


def compare_page(run_id: str, *, tracking: Tracking, server: str, prefixes: tuple[str, ...]) -> str:
    """Return the address of the UI page that compares the children of a run, those of earlier runs it links among them."""
    from urllib.parse import quote

    client = _client(tracking_uri(tracking))
    parent = client.get_run(run_id)
    experiment = str(parent.info.experiment_id)
    children = client.search_runs([experiment], filter_string=f"tags.`{_PARENT}` = '{run_id}'")
    ids = {str(r.info.run_name): str(r.info.run_id) for r in children}
    ids |= {k.removeprefix("linked."): v for k, v in parent.data.tags.items() if k.startswith("linked.")}
    chosen = [ids[name] for name in sorted(ids) if name.startswith(prefixes)]
    return f"{server}/#/compare-runs?runs={quote(json.dumps(chosen))}&experiments={quote(json.dumps([experiment]))}"


def find_run(tracking: Tracking, wanted: str, *, experiment: str, names: Mapping[str, str]) -> tuple[str, str | None]:
    """Find a run of the experiment by what it is about, its name or its id.

    Args:
        tracking: Where MLflow is.
        wanted: Value or key of `names`, or a run id; empty = the last of `names`.
        experiment: Experiment.
        names: Run name → what it is about.

    Returns:
        What the run is about ("" if `wanted` is none of it), and its id (None where nothing was recorded).
    """
    client = _client(tracking_uri(tracking))
    name = next((n for n, about in names.items() if wanted in (n, about)), "") if wanted else list(names)[-1]
    where = [_experiment(client, experiment)]
    if name:
        found = _search(client, where[0], {_NAME: safe_name(name)})
        return names[name], str(found.info.run_id) if found else None
    runs = [r for r in client.search_runs(where) if r.info.run_id == wanted]
    return (names.get(str(runs[0].info.run_name), ""), wanted) if runs else ("", None)
