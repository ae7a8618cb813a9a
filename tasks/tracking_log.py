"""What a run of MLflow holds: params, figures, curves and tags, written in batches and by names that MLflow takes."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.redaction import redact, redacted
from tasks.tracking_names import metric_key, originals, safe_name, safe_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAM_LIMIT = 500


def run_title(name: str) -> str:
    """Return what a run is called: any text, cut."""
    return safe_text(redact(name), limit=250)


def safe_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as MLflow takes them, without secrets."""
    return {safe_name(key): safe_text(str(value)) for key, value in redacted(tags).items()}


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    """Log the params that the run does not have yet."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    rows = [
        Param(safe_name(k), safe_text(redact(str(v)), limit=_PARAM_LIMIT)) for k, v in params.items() if safe_name(k) not in known
    ]
    for start in range(0, len(rows), 100):
        client.log_batch(run_id, params=rows[start : start + 100])
    _keep_originals(client, run_id, params)


def _keep_originals(client: "MlflowClient", run_id: str, names: Iterable[str]) -> None:
    for key, name in originals(names).items():
        client.set_tag(run_id, key, redact(name))


def log_metrics(client: "MlflowClient", run_id: str, metrics: Mapping[str, float]) -> None:
    """Log figures that are final, at step 0."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = [Metric(metric_key(k), float(v), now, 0) for k, v in metrics.items()]
    for start in range(0, len(rows), 500):
        client.log_batch(run_id, metrics=rows[start : start + 500])
    _keep_originals(client, run_id, metrics)


def replay(client: "MlflowClient", run_id: str, history: Path) -> None:
    """Log what the run lacks of the curves in a file of JSON lines {step, …}."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    _keep_originals(client, run_id, sorted({name for row in lines for name in row}))
    lines = [{metric_key(name): value for name, value in row.items()} for row in lines]
    names = {name for row in lines for name in row if name != "step"}
    known = {(name, m.step) for name in names for m in client.get_metric_history(run_id, name)}
    rows = [
        Metric(k, float(v), now, int(row["step"]))
        for row in lines
        for k, v in row.items()
        if k != "step" and (k, int(row["step"])) not in known
    ]
    for start in range(0, len(rows), 500):
        client.log_batch(run_id, metrics=rows[start : start + 500])
