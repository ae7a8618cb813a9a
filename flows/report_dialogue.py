"""The dialogue half of `report`: one self-contained page with plots, and the headline figures on the MLflow parent run."""

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flows.context import StageContext, git_commit
from flows.dialogue_systems import dialogue_systems, place_of_rows, run_name
from tasks.dialogue import JOINT, ROWS, SCORES, WARM
from tasks.report import dialogue_page
from tasks.tracking import finish_parent, finish_stage

if TYPE_CHECKING:
    from models.evaluation.dialogue_scores import DialogueComparison, DialogueTableRow
    from models.reporting.dialogue_report_data import DialogueReportData

SHOWN_EXAMPLES = 2
SCRATCH = "The generator was trained from nothing, so BLEU and Entity F1 are not to be held against pre-trained models."


def report_dialogue(ctx: StageContext) -> None:
    """Write artifacts/<profile>/report/dialogue/index.html with its plots."""
    data = dialogue_report_data(ctx)
    page = dialogue_page(data, ctx.out("report", "dialogue"))
    files = sorted(p for p in page.parent.glob("*") if p.is_file())
    finish_stage(ctx.run("report", experiment="dialogue"), output=ctx.digest, params={}, metrics={}, files=files)
    for variant in ctx.params.variants:
        made = ctx.input("train_dialogue", variant, JOINT)
        run = ctx.run(run_name(variant), experiment="dialogue")
        finish_stage(run, output=made.sha256, params={}, metrics={}, files=[page])
    finish_parent(ctx.parent("dialogue"), tracking=ctx.params.tracking, metrics=headline_figures(data), files=files)


def headline_figures(data: "DialogueReportData") -> dict[str, float]:
    """Return the leading figures of every variant under its name: what the pipeline's own run shows."""
    rows = [r for r in data.table if r.domain == "all" and r.system.kind in ("variant", "warm_start")]
    shown = ("recall_value@1", "recall_id@1", "entity_f1", "bleu")
    return {f"{r.metric}/{r.system.name}": r.value for r in rows if r.metric in shown}


def scored_dialogues(ctx: StageContext) -> "tuple[list[DialogueTableRow], list[DialogueComparison], float]":
    """Return the results table, the paired differences and the level of the intervals of a finished profile."""
    from models.evaluation.dialogue_scores import DialogueComparison, DialogueTableRow

    scored = _json(ctx, "evaluate_dialogue", "comparison", SCORES)
    table = [DialogueTableRow.from_json(row) for row in scored["table"]]
    return table, [DialogueComparison.from_json(row) for row in scored["comparisons"]], scored["confidence"]


def dialogue_report_data(ctx: StageContext) -> "DialogueReportData":
    """Collect what the page shows from the stages' artifacts."""
    from models.data.dialogue_files import KB, read_turns
    from models.data.knowledge_base import KnowledgeBase
    from models.evaluation.dialogue_scores import DialogueSystem, read_rows
    from models.reporting.dialogue_report_data import DialogueReportData, select_dialogue_examples

    params, data = ctx.params, ctx.input("prepare", "dialogues").path
    table, comparisons, confidence = scored_dialogues(ctx)
    spoken = [s for s in dialogue_systems(ctx) if s["kind"] in ("variant", "in_context")]
    rows = {
        DialogueSystem.from_json(s): list(read_rows(ctx.out("evaluate_dialogue", "rows", place_of_rows(s)) / ROWS))
        for s in spoken
    }
    turns = read_turns(data / f"{params.dialogue_evaluation.split}.jsonl")
    return DialogueReportData(
        title=f"{params.profile}: dialogue agent on {params.dialogues.kind}, {params.dialogues.setting.replace('_', ' ')}",
        table=table,
        comparisons=comparisons,
        data_set=params.dialogues.kind,
        setting=params.dialogues.setting,
        histories={v: history(ctx, v) for v in params.variants},
        warm=_json(ctx, "train_dialogue", params.variants[0], WARM, "record.json")["recall"],
        examples=select_dialogue_examples(turns, rows, KnowledgeBase.load(data / KB), per_domain=SHOWN_EXAMPLES),
        provenance=provenance(ctx),
        reproduce=reproduce(ctx),
        notes=[SCRATCH] if params.dialogue.generator.model == "pico" else [],
        confidence=confidence,
    )


def history(ctx: StageContext, variant: str) -> list[dict[str, Any]]:
    """Return the logged rows of a variant's joint training."""
    text = (ctx.out("train_dialogue", variant, JOINT) / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


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
