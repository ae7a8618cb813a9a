"""The dialogue half of `report`: one self-contained page with plots, and the headline figures on the MLflow parent run."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flows.context import StageContext, git_commit
from flows.dialogue_systems import dialogue_systems, run_name
from tasks.artifact import Artifact, materialise
from tasks.dialogue import JOINT, SCORES, WARM
from tasks.report import page_files
from tasks.report_dialogue import dialogue_page
from tasks.tracking import finish_parent, finish_stage

if TYPE_CHECKING:
    from models.evaluation.dialogue.scores import DialogueComparison, DialogueTableRow

SCRATCH = "The generator was trained from nothing, so BLEU and Entity F1 are not to be held against pre-trained models."


def report_dialogue(ctx: StageContext) -> None:
    """Write artifacts/<profile>/report/dialogue/index.html with its plots."""
    trained: dict[str, Artifact] = {v: ctx.input("train_dialogue", v, JOINT) for v in ctx.params.variants}
    page = make_page(ctx, trained)
    materialise(page, ctx.out("report", "dialogue"))
    files = page_files(page)
    finish_stage(ctx.run("report", experiment="dialogue"), output=ctx.digest, params={}, metrics={}, files=files)
    for variant, made in trained.items():
        run = ctx.run(run_name(variant), experiment="dialogue")
        finish_stage(run, output=made.sha256, params={}, metrics={}, files=[page.path / "index.html"])
    figures = headline_figures(scored_dialogues(ctx)[0])
    finish_parent(ctx.parent("dialogue"), tracking=ctx.params.tracking, metrics=figures, files=files)


def make_page(ctx: StageContext, trained: Mapping[str, Artifact]) -> Artifact:
    """Return the page."""
    params = ctx.params
    spoken = [s for s in dialogue_systems(ctx) if s.kind in ("variant", "in_context")]
    texts = {
        "title": f"{params.profile}: dialogue agent on {params.dialogues.kind}, {params.dialogues.setting.replace('_', ' ')}",
        "data_set": params.dialogues.kind,
        "setting": params.dialogues.setting,
        "provenance": provenance(ctx),
        "reproduce": reproduce(ctx),
        "notes": [SCRATCH] if params.dialogue.generator.model == "pico" else [],
    }
    return dialogue_page(
        texts,
        data=ctx.input("prepare", "dialogues"),
        split=params.dialogue_evaluation.split,
        comparison=ctx.input("evaluate_dialogue", "comparison"),
        systems=tuple(system.to_json() for system in spoken),
        rows=tuple(ctx.input("evaluate_dialogue", "rows", system.folder) for system in spoken),
        trained=trained,
        warm=ctx.input("train_dialogue", params.variants[0], WARM),
    )


def headline_figures(table: "Sequence[DialogueTableRow]") -> dict[str, float]:
    """Return the leading figures of every variant under its name: what the pipeline's own run shows."""
    rows = [r for r in table if r.domain == "all" and r.system.kind in ("variant", "warm_start")]
    shown = ("recall_value@1", "recall_id@1", "expected_recall_value@1", "expected_recall_id@1", "fit@1", "entity_f1", "bleu")
    return {f"{r.metric}/{r.system.name}": r.value for r in rows if r.metric in shown}


def scored_dialogues(ctx: StageContext) -> "tuple[list[DialogueTableRow], list[DialogueComparison], float]":
    """Return the results table, the paired differences and the level of the intervals of a finished profile."""
    from models.evaluation.dialogue.scores import DialogueComparison, DialogueTableRow

    scored = _json(ctx, "evaluate_dialogue", "comparison", SCORES)
    table = [DialogueTableRow.from_json(row) for row in scored["table"]]
    return table, [DialogueComparison.from_json(row) for row in scored["comparisons"]], scored["confidence"]


def provenance(ctx: StageContext) -> dict[str, str]:
    """Return what made the result: commit, params, versions."""
    versions = {p: version(p) for p in ("torch", "transformers", "faiss-cpu", "prefect", "mlflow", "dvc") if _installed(p)}
    return {"profile": ctx.params.profile, "params": ctx.digest[:16], "commit": git_commit(ctx.root), **versions}


def _installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def reproduce(ctx: StageContext) -> list[str]:
    """Return the commands that give this report again."""
    variants = f" -S 'variants=[{','.join(ctx.params.variants)}]'"
    return [
        f"git checkout {git_commit(ctx.root).rstrip('+')}",
        f"python -m flows run dialogue --profile {ctx.params.profile}{variants}",
    ]


def _json(ctx: StageContext, *place: str) -> Any:
    return json.loads(ctx.out(*place).read_text(encoding="utf-8"))
