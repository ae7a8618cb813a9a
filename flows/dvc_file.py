"""dvc.yaml as the stage table says it must be; `python -m flows dvc` prints it and a test compares."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.stages import STAGES, Stage
from models.files import write_atomic
from tasks.code_closure import module_path
from tasks.workspace import project_root

HEADER = """# Derived from flows/stages.py by `python -m flows dvc --write`; a test keeps the two equal. Do not edit by hand.
# `profile`, `methods` and `variants` come from params.yaml. Stages depend on the import closure of their code.
"""


def dvc_stages() -> dict[str, Any]:
    """Return the content of dvc.yaml."""
    plots = [plot for stage in STAGES for plot in _plots(stage)]
    return {"stages": {s.name: _definition(s) for s in STAGES}, "plots": plots}


def _definition(stage: Stage) -> dict[str, Any]:
    option = f" --{stage.item} ${{item.{stage.item}}}" if stage.matrix else ""
    out = f"artifacts/${{profile}}/{stage.name}" + (f"/${{item.{stage.item}}}" if stage.matrix else "")
    body: dict[str, Any] = {}
    if stage.matrix:
        body["matrix"] = {stage.item: f"${{{stage.matrix}}}"}
    body["cmd"] = f"python -m flows run {stage.name}{option}"
    code = [module_path(name).relative_to(project_root()).as_posix() for name in stage.code()]
    body["deps"] = [*(f"artifacts/${{profile}}/{name}" for name in stage.inputs), "profiles/${profile}.yaml", *code]
    body["params"] = [*stage.sections]
    body["outs"] = [out]
    reports = [f"reports/${{profile}}/{name}" for name in stage.metrics]
    if reports:
        body["metrics"] = [{path: {"cache": False}} for path in reports]
    if stage.plots:
        body["outs"] += [{f"reports/${{profile}}/{name}": {"cache": False}} for name in stage.plots]
    return body


PLOTS: Mapping[str, Mapping[str, str]] = {
    "scores.csv": {"x": "value", "y": "system", "template": "panels", "title": "Held-out scores"},
    "wins.csv": {"x": "share", "y": "source", "template": "panels", "title": "Who wins, by mode"},
    "agreement.csv": {"x": "training", "y": "inference", "template": "confusion", "title": "Agreement of the two modes"},
    "loss.csv": {"x": "step", "y": "loss", "template": "curves", "title": "Training loss"},
    "dialogue_scores.csv": {"x": "value", "y": "system", "template": "panels", "title": "Held-out dialogues"},
    "recall.csv": {"x": "step", "y": "recall", "template": "curves", "title": "Recall of the retriever (validation)"},
}


def _plots(stage: Stage) -> list[dict[str, Any]]:
    return [{f"reports/${{profile}}/{name}": dict(PLOTS[name])} for name in stage.plots]


def render() -> str:
    """Return dvc.yaml as text."""
    yaml = YAML()
    yaml.width = 140
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(dvc_stages(), stream)
    return HEADER + stream.getvalue()


def write(path: Path) -> None:
    """Write dvc.yaml."""
    write_atomic(path, render())
