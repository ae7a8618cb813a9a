"""Models logged with their runs in MLflow, by path, with the packages they need in the versions that are installed."""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from models.params.runtime import Tracking
from tasks.code_identity import reach
from tasks.tracking import _client, tracking_uri
from tasks.tracking_log import model_name
from tasks.tracking_store import explained
from tasks.workspace import project_root


def requirements(module: str, *, extra: Iterable[str] = ()) -> list[str]:
    """Return `distribution==version` of all that a module and those it imports need, sorted; local version labels are left out.

    Imports inside functions count. Those for type checking do not, nor do packages that are not installed here.

    Args:
        module: Of this project, such as `tasks.dialogue_serving`.
        extra: Distributions that are needed although nothing here imports them.
    """
    found = reach(module, by_name=False).packages
    wanted = {_distributions()[name][0] for name in found if name in _distributions()} | set(extra)
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted(wanted, key=str.lower)]


@cache
def _distributions() -> dict[str, list[str]]:
    """Return import name → distributions that bring it."""
    return {name: sorted(set(owners)) for name, owners in packages_distributions().items()}


_LOGGED = "fusedial.model"


def log_model(run_id: str, folder: Path, *, tracking: Tracking, name: str) -> None:
    """Log a fused model (Hugging Face folder) with a run. Once per run."""
    # transformers computes with torch, and writes chat templates with jinja2.
    needed = requirements("tasks.serving", extra=("torch", "jinja2"))
    _log(run_id, tracking=tracking, name=name, code="serving.py", artifacts={"model": str(folder)}, pip_requirements=needed)


def log_agent(
    run_id: str, folder: Path, kb: Path, index: Path, *, settings: Mapping[str, Any], tracking: Tracking, name: str
) -> None:
    """Log a trained dialogue agent with a run. Once per run.

    The package `models` travels with it, so that it can be served without this project.

    Args:
        run_id: The run.
        folder: The output of joint training.
        kb: The knowledge base.
        index: Its index under the agent's retriever.
        settings: How it answers: `num_retrieved`, `num_beams`, `max_new_tokens`, `batch_size`; kept as the model's config.
        tracking: Where.
        name: Of the model.
    """
    _log(
        run_id,
        tracking=tracking,
        name=name,
        code="dialogue_serving.py",
        artifacts={"variant": str(folder), "kb": str(kb), "index": str(index)},
        code_paths=[str(project_root() / "models")],
        model_config=dict(settings),
        pip_requirements=requirements("tasks.dialogue_serving"),
    )


def _log(run_id: str, *, tracking: Tracking, name: str, code: str, artifacts: dict[str, str], **more: Any) -> None:
    uri = tracking_uri(tracking)
    client = _client(uri)
    if client.get_run(run_id).data.tags.get(_LOGGED):
        return
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(uri)
    # MLflow reads a plain path as an address too: `%20` in a folder's name would be a space.
    places = {key: Path(place).absolute().as_uri() for key, place in artifacts.items()}
    with explained(uri), mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name=model_name(name),
            python_model=str(Path(__file__).with_name(code)),
            artifacts=places,
            **more,
        )
    client.set_tag(run_id, _LOGGED, info.model_uri)
