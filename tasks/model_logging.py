"""Models logged with their runs in MLflow, by path: nothing is loaded, only safetensors and JSON are copied."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.params.runtime import Tracking
from tasks.tracking import _client, tracking_uri
from tasks.tracking_names import model_name
from tasks.tracking_store import explained
from tasks.workspace import project_root

_LOGGED = "fusedial.model"


def log_model(run_id: str, folder: Path, *, tracking: Tracking, name: str) -> None:
    """Log a fused model (Hugging Face folder) with a run. Once per run."""
    _log(run_id, tracking=tracking, name=name, code="serving.py", artifacts={"model": str(folder)})


def log_agent(run_id: str, folder: Path, kb: Path, *, tracking: Tracking, name: str) -> None:
    """Log a trained dialogue agent with a run: the output of joint training and the knowledge base. Once per run.

    The package `models` travels with it, so that it can be served without this project.
    """
    artifacts = {"variant": str(folder), "kb": str(kb)}
    packages = {"code_paths": [str(project_root() / "models")]}
    _log(run_id, tracking=tracking, name=name, code="dialogue_serving.py", artifacts=artifacts, **packages)


def _log(run_id: str, *, tracking: Tracking, name: str, code: str, artifacts: dict[str, str], **more: Any) -> None:
    uri = tracking_uri(tracking)
    client = _client(uri)
    if client.get_run(run_id).data.tags.get(_LOGGED):
        return
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(uri)
    with explained(uri), mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name=model_name(name),
            python_model=str(Path(__file__).with_name(code)),
            artifacts=artifacts,
            pip_requirements=[f"{p}=={version(p).partition('+')[0]}" for p in ("torch", "transformers", "mlflow")],
            **more,
        )
    client.set_tag(run_id, _LOGGED, info.model_uri)
