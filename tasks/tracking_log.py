"""What a run of MLflow holds: params, figures, curves and tags, written in batches and by names that MLflow accepts."""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.redaction import redact, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


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


MODEL = "fusedial.model"
"""Tag of a run: the address of the model that it has logged, `models:/<id>`."""


def log_metrics(client: "MlflowClient", run: "Run", metrics: Mapping[str, float]) -> None:
    """Log figures that are final, at step 0; they count for the run's logged model, too."""
    from mlflow.entities import Metric

    run_id, now = str(run.info.run_id), int(time.time() * 1000)
    model = run.data.tags.get(MODEL, "").removeprefix("models:/") or None
    rows = [Metric(metric_key(k), float(v), now, 0, model_id=model) for k, v in metrics.items()]
    for start in range(0, len(rows), 500):
        client.log_batch(run_id, metrics=rows[start : start + 500])
    _keep_originals(client, run_id, metrics)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set that a stage read.

    Attributes:
        name: Readable name.
        digest: Of its content.
        place: Its folder, relative to the project.
        context: What for: `training`, `evaluation`.
        counts: Its size in figures.
    """

    name: str
    digest: str
    place: str
    context: str
    counts: Mapping[str, int]


Files = Iterable[Path | tuple[Path, str]]
_FILES = "fusedial.files"
_DIGEST = 36  # characters that MLflow takes of a digest


def log_data(client: "MlflowClient", run: "Run", data: Sequence[DataSet]) -> None:
    """Log the data sets that the run does not have yet."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    known = _known_data(run)
    rows = [
        DatasetInput(
            Dataset(
                name=safe_text(one.name, limit=_PARAM_LIMIT),
                digest=one.digest[:_DIGEST],
                source_type="local",
                source=json.dumps({"uri": one.place}),
                profile=json.dumps(one.counts),
            ),
            tags=[InputTag("mlflow.data.context", one.context)],
        )
        for one in data
        if one.digest[:_DIGEST] not in known
    ]
    if rows:
        client.log_inputs(run.info.run_id, datasets=rows)


def _known_data(run: "Run") -> set[str]:
    return {str(one.dataset.digest) for one in run.inputs.dataset_inputs} if run.inputs else set()


def log_files(client: "MlflowClient", run: "Run", files: Files) -> None:
    """Log files that are new or have changed; a tag keeps what the run has."""
    had = _files_of(run)
    fresh = {place: (file, digest) for place, (file, digest) in _digests(files).items() if had.get(place) != digest}
    for place, (file, _) in fresh.items():
        client.log_artifact(run.info.run_id, str(file), place.rpartition("/")[0] or None)
    if fresh:
        now = had | {place: digest for place, (_, digest) in fresh.items()}
        client.set_tag(run.info.run_id, _FILES, json.dumps(now, sort_keys=True))


def _files_of(run: "Run") -> dict[str, str]:
    found: dict[str, str] = json.loads(run.data.tags.get(_FILES, "{}"))
    return found


def _digests(files: Files) -> dict[str, tuple[Path, str]]:
    """Return place among the artifacts → file, short digest."""
    pairs = [(one, "") if isinstance(one, Path) else one for one in files]
    return {
        f"{folder}/{file.name}".lstrip("/"): (file, hashlib.sha256(file.read_bytes()).hexdigest()[:12]) for file, folder in pairs
    }


def is_logged(
    run: "Run",
    *,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    files: Files,
    data: Sequence[DataSet],
) -> bool:
    """Say whether a run has all of this already: a stage from the cache then writes nothing."""
    kept, had = run.data, _files_of(run)
    return (
        all(kept.tags.get(key) == value for key, value in tags.items())
        and all(safe_name(key) in kept.params for key in params)
        and all(kept.metrics.get(metric_key(key)) == float(value) for key, value in metrics.items())
        and all(had.get(place) == digest for place, (_, digest) in _digests(files).items())
        and {one.digest[:_DIGEST] for one in data} <= _known_data(run)
    )


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
