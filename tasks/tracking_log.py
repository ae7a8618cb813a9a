"""What a run of MLflow holds: params, figures, curves and tags, written in batches and by names that MLflow accepts."""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.redaction import redact, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient


# MLflow takes 250 characters of a key; the tag that holds an original is `original.` and the name.
_ORIGINAL = "original."
_MOST = 250 - len(_ORIGINAL)
_TEXT_LIMIT = 5000
_REFUSED = re.compile(r"[^/\w.\- :]")


def safe_name(name: str) -> str:
    """Return a name of a metric, param or tag as MLflow takes it: letters and digits of all scripts, `_ - . : /` and blanks.

    A name that MLflow takes is returned as it is. In any other the characters it refuses become `_`, parts of a path that are
    none (`a//b`, `../x`) are filled, it is cut, and a digest of the original goes behind it, so that two names stay two.
    """
    parts = ("_" if part in ("", ".", "..") else part for part in _REFUSED.sub("_", name).split("/"))
    mapped = "/".join(parts)
    if mapped == name and len(name) <= _MOST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{mapped[: _MOST - len(digest) - 1]}-{digest}"


def metric_key(name: str) -> str:
    """Return a metric's name as MLflow takes it: `recall@1` is `recall_at_1` there."""
    return safe_name(name.replace("@", "_at_"))


def model_name(name: str) -> str:
    """Return a model's name as MLflow takes it: without `/ : . % " '` also."""
    safe = safe_name(name)
    plain = re.sub(r"[^\w\- ]", "_", safe)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def safe_text(text: str, *, limit: int = _TEXT_LIMIT) -> str:
    """Return a value as every store takes it: cut, without NUL and without halves of surrogate pairs."""
    return text[:limit].replace("\0", "�").encode("utf-8", "replace").decode()


def originals(names: Iterable[str]) -> dict[str, str]:
    """Return the tags that hold the names which MLflow does not take: `original.<name there>` → name."""
    return {f"{_ORIGINAL}{metric_key(name)}": safe_text(name) for name in names if metric_key(name) != name.replace("@", "_at_")}


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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested params with dotted keys; lists of scalars become text, lists of mappings are indexed."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            flat |= flatten({str(i): v for i, v in enumerate(value)}, f"{name}.")
        elif isinstance(value, list | tuple):
            flat[name] = ",".join(str(v) for v in value)
        else:
            flat[name] = "null" if value is None else value
    return flat
