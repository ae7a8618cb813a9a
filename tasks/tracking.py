"""What a stage tells MLflow: curves while it runs, figures and files at its end; a parent run per pipeline, a child per stage.

A stage whose work was cached links the run that did it instead of opening an empty one.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.params.runtime import Runtime, Tracking
from tasks.tracking_log import (
    DataSet,
    Files,
    is_logged,
    log_data,
    log_files,
    log_metrics,
    log_params,
    metric_key,
    replay,
    safe_name,
    safe_tags,
)
from tasks.tracking_pages import compare_page, file_page, find_run, parent_page, table_page
from tasks.tracking_runs import (
    NAME,
    OUTPUT,
    ParentRun,
    StageRun,
    child_run,
    client_of,
    experiment_id,
    open_parent,
    parent_of,
    runs_ended,
    search,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "DataSet",
    "ParentRun",
    "RunSink",
    "StageRun",
    "compare_page",
    "file_page",
    "find_run",
    "finish_parent",
    "finish_stage",
    "parent_of",
    "parent_page",
    "parent_run",
    "runs_ended",
    "table_page",
    "tracking_uri",
]
_LONG_S = 10.0  # a shorter step has no progress artifact: a pipeline of a hundred steps would have ninety


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
    return open_parent(tracking_uri(tracking), experiment, ParentRun(key=key, name=name, params=params, tags=tags, note=note))


class RunSink:
    """A MetricsSink over an MLflow run, a terminal bar with rate and time left, and a Prefect progress artifact."""

    def __init__(self, run: StageRun, *, runtime: Runtime, label: str) -> None:
        """Open nothing yet: the run appears with its first metric."""
        self._run, self._label, self._show = run, label, run.progress and runtime.progress
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = self._shown = self._started = time.monotonic()
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
            self._client = client_of(self._run.uri)
            found = child_run(self._client, self._run, create=True)
            assert found is not None
            self._run_id = str(found.info.run_id)
        rows = [Metric(*row) for row in self._buffer]
        for start in range(0, len(rows), 500):
            self._client.log_batch(self._run_id, metrics=rows[start : start + 500])
        self._buffer.clear()
        self._flushed = time.monotonic()

    def progress(self, done: int, total: int, *, unit: str) -> None:
        """Move the bar; about once in two seconds also the progress artifact of the Prefect UI, which only a long step has."""
        if self._show:
            self._move_bar(done, total, unit)
        now = time.monotonic()
        if now - self._shown > 2.0 or (done >= total and self._artifact is not None):
            self._shown = now
            if now - self._started > _LONG_S:
                self._tell_prefect(100.0 * done / max(total, 1), f"{self._label}: {done:,} of {total:,} {unit}")

    def _move_bar(self, done: int, total: int, unit: str) -> None:
        from tqdm import tqdm

        if self._bar is None or self._bar_for != (total, unit):
            self._close_bar()
            self._bar_for, self._bar_done = (total, unit), 0
            # disable=None: no bar where the output is not a terminal.
            self._bar = tqdm(total=total, unit=unit, desc=self._label, disable=None, leave=False, dynamic_ncols=True)
        self._bar.update(done - self._bar_done)
        self._bar_done = done

    def _tell_prefect(self, percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import TaskRunContext

        if TaskRunContext.get() is None:
            return
        percent = min(percent, 100.0)
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, description=text)
        else:
            update_progress_artifact(self._artifact, percent, description=text)

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
    files: Files = (),
    data: Sequence[DataSet] = (),
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    """Close a stage's run, or link the run that produced the same output before.

    Args:
        run: Address of the stage's run.
        output: Digest of the stage's output.
        params: Params that make this stage (dotted), logged as params.
        metrics: Final figures, logged once (`final/…`), under the model that the run has logged, if any.
        history: JSON lines {step, …} of training curves; what the run lacks of them is replayed (all, where this database has
            never seen the run; the last seconds before a kill, which were still buffered). The file itself goes to `curves/`.
        files: Files shown with the run (plots, tables); (file, folder) puts one into a folder.
        data: Data sets that it read.
        tags: More tags.
        status: MLflow status to end with.

    Returns:
        The run id.
    """
    client = client_of(run.uri)
    if history is not None and history.is_file():
        files = [*files, (history, "curves")]
    files = list(files)
    found = child_run(client, run, create=False)
    if found is None:
        place = experiment_id(client, run.experiment)
        before = search(client, place, {NAME: safe_name(run.name), OUTPUT: safe_name(output)})
        if before is not None:
            run_id = str(before.info.run_id)
            if parent_id := parent_of(run, create=False):
                client.set_tag(parent_id, safe_name(f"linked.{run.name}"), run_id)
            log_metrics(client, before, {k: v for k, v in metrics.items() if metric_key(k) not in before.data.metrics})
            log_files(client, before, files)
            return run_id
        found = child_run(client, run, create=True)
        assert found is not None
    run_id = str(found.info.run_id)
    tag = {OUTPUT: safe_name(output)}
    if found.info.status == status and is_logged(found, tags=tag, params=params, metrics=metrics, files=files, data=data):
        return run_id
    if history is not None and history.is_file():
        replay(client, run_id, history)
    for key, value in {OUTPUT: safe_name(output), **safe_tags(tags or {})}.items():
        client.set_tag(run_id, key, value)
    log_params(client, run_id, params)
    log_data(client, found, data)
    log_metrics(client, found, metrics)
    log_files(client, found, files)
    client.set_terminated(run_id, status=status)
    return run_id


def finish_parent(run_id: str, *, tracking: Tracking, metrics: Mapping[str, float], files: Files = ()) -> None:
    """Log the pipeline's headline figures on the parent run and end it."""
    client = client_of(tracking_uri(tracking))
    found = client.get_run(run_id)
    log_metrics(client, found, {k: v for k, v in metrics.items() if found.data.metrics.get(metric_key(k)) != v})
    log_files(client, found, list(files))
    client.set_terminated(run_id)
