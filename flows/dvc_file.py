"""dvc.yaml as the stage table says it must be; `python -m flows dvc` prints it and a test compares."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from flows.stages import STAGES, Stage
from models.files import write_atomic
from tasks.code_identity import module_path, package_files
from tasks.workspace import project_root

HEADER = """# Derived from flows/stages.py by `python -m flows dvc --write`; a test keeps the two equal. Do not edit by hand.
# `profile`, `methods` and `variants` come from params.yaml. A stage depends on the code it reaches; a folder is named where the
# stage reaches every module below it, and for the folders that both wings share. The cache of steps knows the exact code.
"""

SHARED = ("models/params", "models/lm", "models/corpus", "models/tokenization", "models/training")
"""Folders below both wings: a stage that reaches one module depends on the whole folder.

An edit that the stage does not reach may make DVC run it; its steps then come from the cache, whose keys hold the exact code.
"""
WHOLE: Mapping[str, tuple[str, ...]] = {"report": ("models/evaluation", "models/reporting")}
"""More of these for one stage: the report comes last and takes seconds."""


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
    body["deps"] = [*(f"artifacts/${{profile}}/{name}" for name in stage.inputs), "profiles/${profile}.yaml", *code_places(stage)]
    body["params"] = _one_line(CommentedSeq(stage.sections))
    body["outs"] = [out]
    reports = [f"reports/${{profile}}/{name}" for name in stage.metrics]
    if reports:
        body["metrics"] = [_uncached(path) for path in reports]
    if stage.plots:
        body["outs"] += [_uncached(f"reports/${{profile}}/{name}") for name in stage.plots]
    return body


def _uncached(path: str) -> dict[str, Any]:
    return {path: _one_line(CommentedMap(cache=False))}


def _one_line(value: CommentedSeq | CommentedMap) -> CommentedSeq | CommentedMap:
    value.fa.set_flow_style()
    return value


def code_places(stage: Stage) -> list[str]:
    """Return the files and folders, relative to the project, that hold what a stage reaches.

    A folder stands for its modules where the stage reaches all modules below it, the files of packages aside: those hold no code;
    and where it is `SHARED`, or `WHOLE` for the stage, as soon as one of them is reached.
    """
    root = project_root()
    reached = {path for name in stage.code() for path in (module_path(name), *package_files(name))}
    modules = {path for path in reached if path.name != "__init__.py" and path.suffix == ".py"}
    folders = {folder for path in modules for folder in path.parents if root in folder.parents}
    whole = {f for f in folders if {p for p in f.rglob("*.py") if p.name != "__init__.py"} <= modules}
    whole |= {root / folder for folder in (*SHARED, *WHOLE.get(stage.name, ()))}
    places = {next((f for f in [*path.parents][::-1] if f in whole), path) for path in reached}
    return sorted(place.relative_to(root).as_posix() for place in places)


PLOTS: Mapping[str, Mapping[str, str]] = {
    "scores.csv": {"x": "value", "y": "system", "template": "panels", "title": "Held-out scores"},
    "wins.csv": {"x": "share", "y": "source", "template": "panels", "title": "Who wins, by mode"},
    "agreement.csv": {"x": "training", "y": "inference", "template": "confusion", "title": "Agreement of the two modes"},
    "loss.csv": {"x": "step", "y": "loss", "template": "curves", "title": "Training loss"},
    "dialogue_scores.csv": {"x": "value", "y": "system", "template": "panels", "title": "Held-out dialogues"},
    "recall.csv": {"x": "step", "y": "recall", "template": "curves", "title": "Recall of the retriever (validation)"},
}


def _plots(stage: Stage) -> list[dict[str, Any]]:
    return [{f"reports/${{profile}}/{name}": _one_line(CommentedMap(PLOTS[name]))} for name in stage.plots]


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
