"""Stage `evaluate_dialogue`: every variant, the warm start, the floors and in-context generators on the held-out dialogues."""

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.dialogue_systems import GENERATOR, WARM_START, dialogue_systems, in_context_run_name, run_name, unseen_renewals
from flows.encoders import made_model
from flows.prepare import dialogue_files
from models.evaluation.dialogue.system import DialogueSystem
from models.files import replacing, write_atomic
from models.params.dialogue_evaluation import DialogueEvaluationParams, InContextParams
from tasks.artifact import Artifact, materialise_tree
from tasks.corpus import dialogues
from tasks.dialogue import (
    JOINT,
    SCORES,
    WARM,
    dialogue_comparison,
    dialogue_evaluation,
    floor_responses,
    floor_retrieval,
    in_context_evaluation,
    retriever_evaluation,
)
from tasks.kb_index import kb_index
from tasks.tracking import StageRun, finish_stage

RETRIEVER = "best_retriever/retriever"
HEADLINES = ("recall_value@1", "recall_id@1", "bleu", "entity_f1")
METRICS = (*HEADLINES[:2], "expected_recall_value@1", "expected_recall_id@1", "fit@1", *HEADLINES[2:])  # of `dvc metrics`


def evaluate_dialogue_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/evaluate_dialogue/{rows,index,comparison} and the tables of `dvc metrics` and `dvc plots`."""
    systems = dialogue_systems(ctx)
    work = _Evaluation(ctx)
    rows = [work.rows(system) for system in systems]
    data = ctx.input("prepare", "dialogues")
    cfg = work.cfg(ctx.params.dialogue_evaluation)
    made = dialogue_comparison(
        cfg.model_copy(update=_bootstrap(ctx.params.dialogue_evaluation)),
        tuple(system.to_json() for system in systems),
        rows=tuple(rows),
        data=data,
        kind=ctx.params.dialogues.kind,
    )
    parts = {f"rows/{s.folder}": a for s, a in zip(systems, rows, strict=True)}
    parts |= {f"index/{variant}": work.index(variant) for variant in ctx.params.variants}
    materialise_tree(parts | {"comparison": made}, ctx.out("evaluate_dialogue"))
    table = json.loads((made.path / SCORES).read_text(encoding="utf-8"))["table"]
    write_reports(ctx, table)
    _track(ctx, systems, table, made)


def _bootstrap(cfg: DialogueEvaluationParams) -> dict[str, Any]:
    return {key: getattr(cfg, key) for key in ("bootstrap_samples", "confidence", "seed")}


class _Evaluation:
    """The tasks of the stage, by system."""

    def __init__(self, ctx: StageContext) -> None:
        self._ctx, self._params = ctx, ctx.params
        self._data = ctx.input("prepare", "dialogues")
        self._common = {"kind": ctx.params.dialogues.kind, "condensed": ctx.params.dialogues.setting == "condensed"}
        self._num = max(*ctx.params.dialogue_evaluation.recall_at, ctx.params.dialogue.num_retrieved)

    def cfg(self, cfg: DialogueEvaluationParams, **changes: Any) -> DialogueEvaluationParams:
        """Return the settings that decide a system's rows: the bootstrap and other systems come later."""
        defaults = DialogueEvaluationParams()
        neutral = {**_bootstrap(defaults), "in_context": (), "unseen": defaults.unseen}
        return cfg.model_copy(update={**neutral, **changes})

    def rows(self, system: DialogueSystem) -> Artifact:
        cfg = self.cfg(self._params.dialogue_evaluation)
        name, kind = system.name, system.kind
        if kind == "floor":
            return floor_retrieval(cfg, self._data, floor=name, num=self._num, **self._common)
        if kind == "response_floor":
            return floor_responses(cfg, self._data, floor=name, **self._common)
        if kind == "variant":
            agent = self._ctx.input("train_dialogue", name, JOINT)
            run = self._run(run_name(name))
            given = {"runtime": self._params.runtime, "run": run, **self._common}
            return dialogue_evaluation(cfg, self._data, agent=agent, index=self.index(name), num=self._num, **given)
        if kind == "in_context":
            return self._in_context(system, cfg)
        if kind == "unseen":
            return self._unseen(system, cfg)
        warm = name == WARM
        trained = self._ctx.input("train_dialogue", self._params.variants[0] if warm else name, WARM if warm else JOINT)
        folder = "retriever" if warm else GENERATOR if kind == "dense" else RETRIEVER
        return self._retriever(cfg, self._data, trained, folder, by_cosine=kind == "dense")

    def index(self, variant: str) -> Artifact:
        """Return the index of the knowledge base under a variant's retriever."""
        return self._index(self._data, self._ctx.input("train_dialogue", variant, JOINT), GENERATOR)

    def _index(self, data: Artifact, trained: Artifact, folder: str) -> Artifact:
        params = self._params
        return kb_index(params.index, data, trained, folder=folder, runtime=params.runtime, run=self._run("evaluate"))

    def _retriever(
        self, cfg: DialogueEvaluationParams, data: Artifact, trained: Artifact, folder: str, *, by_cosine: bool = False
    ) -> Artifact:
        return retriever_evaluation(
            cfg,
            data,
            retriever=trained,
            folder=folder,
            index=self._index(data, trained, folder),
            num=self._num,
            by_cosine=by_cosine,
            runtime=self._params.runtime,
            **self._common,
        )

    def _unseen(self, system: DialogueSystem, cfg: DialogueEvaluationParams) -> Artifact:
        renew = unseen_renewals(self._params.dialogue_evaluation.unseen)[system.test]
        changed = self._params.dialogues.model_copy(update={"renew": renew})
        run = self._run("prepare")
        data = dialogues(changed, dialogue_files(self._ctx), runtime=self._params.runtime, run=run)
        return self._retriever(cfg, data, self._ctx.input("train_dialogue", system.name, JOINT), GENERATOR)

    def _in_context(self, system: DialogueSystem, cfg: DialogueEvaluationParams) -> Artifact:
        spec = next(s for s in self._params.dialogue_evaluation.in_context if s.name == system.name)
        changes = {"limit": spec.limit} if spec.limit is not None else {}
        return in_context_evaluation(
            spec,
            self.cfg(cfg, **changes),
            self._data,
            agent=self._ctx.input("train_dialogue", spec.retriever, JOINT),
            index=self.index(spec.retriever),
            model=self._model(spec),
            style=system.meta_knowledge,
            num=self._num,
            runtime=self._params.runtime,
            run=self._run(in_context_run_name(system)),
            **self._common,
        )

    def _model(self, spec: InContextParams) -> Artifact | None:
        """Return the fused model or source that a generator uses; None where it needs neither (an endpoint)."""
        if spec.kind != "causal":
            return None
        return made_model(self._ctx, spec.model)

    def _run(self, name: str) -> StageRun:
        return self._ctx.run(name, experiment="dialogue")


def write_reports(ctx: StageContext, table: Iterable[Mapping[str, Any]]) -> None:
    """Write dialogue.json for `dvc metrics` and dialogue_scores.csv, recall.csv for `dvc plots`."""
    rows = [row for row in table if row["domain"] == "all"]
    tree: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"] in METRICS:
            tree.setdefault(system_of(row).key, {})[row["metric"]] = round(row["value"], 4)
    text = json.dumps(tree, indent=1, ensure_ascii=False)
    write_atomic(ctx.reports() / "dialogue.json", text + "\n")
    with replacing(ctx.reports() / "dialogue_scores.csv") as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["system", "panel", "value", "low", "high", "n"])
        for row in rows:
            if row["metric"] in HEADLINES:
                writer.writerow(
                    [system_of(row).key, row["metric"], *(f"{row[k]:.6g}" for k in ("value", "low", "high")), row["n"]]
                )
    with replacing(ctx.reports() / "recall.csv") as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "step", "recall"])
        writer.writerows(recall_curve(ctx))


def recall_curve(ctx: StageContext) -> Iterable[list[Any]]:
    """Yield variant, step, recall@1 by value on the validation split."""
    for variant in ctx.params.variants:
        text = (ctx.out("train_dialogue", variant, JOINT) / "history.jsonl").read_text(encoding="utf-8")
        for row in map(json.loads, text.splitlines()):
            if "valid/recall@1_value" in row:
                yield [variant, row["step"], round(row["valid/recall@1_value"], 6)]


def system_of(row: Mapping[str, Any]) -> DialogueSystem:
    """Return the system of a row of the results table."""
    return DialogueSystem.from_json({**row, "name": row["system"]})


def _track(ctx: StageContext, systems: list[DialogueSystem], table: list[Mapping[str, Any]], made: Artifact) -> None:
    """Put the final figures on the runs, under the same names, so that they compare."""
    for system in systems:
        figures = final_metrics(table, system)
        if system.kind == "variant":
            artifact = ctx.input("train_dialogue", system.name, JOINT)
            run = ctx.run(run_name(system.name), experiment="dialogue")
            finish_stage(run, output=artifact.sha256, params={"variant": system.name}, metrics=figures)
        elif system.kind == "warm_start":
            artifact = ctx.input("train_dialogue", ctx.params.variants[0], WARM)
            run = ctx.run(WARM_START, experiment="dialogue")
            finish_stage(run, output=artifact.sha256, params={"variant": WARM_START}, metrics=figures)
        elif system.kind == "in_context":
            name = in_context_run_name(system)
            run = ctx.run(name, experiment="dialogue")
            output = ctx.input("evaluate_dialogue", "rows", system.folder).sha256
            finish_stage(run, output=output, params={"variant": name}, metrics=figures)
    untrained = [system for system in systems if system.kind in ("floor", "response_floor")]
    floors = {name: value for system in untrained for name, value in _floor(table, system).items()}
    run = ctx.run("evaluate", experiment="dialogue")
    finish_stage(run, output=made.sha256, params={}, metrics=floors, files=[made.path / SCORES])


def _floor(table: Iterable[Mapping[str, Any]], system: DialogueSystem) -> dict[str, float]:
    """Return `floor/<name>/<metric>_<domain>` of an untrained system."""
    figures = final_metrics(table, system)
    return {f"floor/{system.name}/{name.removeprefix('final/')}": value for name, value in figures.items()}


def final_metrics(table: Iterable[Mapping[str, Any]], system: DialogueSystem) -> dict[str, float]:
    """Return `final/<metric>_<domain>` of one system."""
    return {f"final/{row['metric']}_{row['domain']}": float(row["value"]) for row in table if system_of(row) == system}


@flow(name="evaluate_dialogue")
def evaluate_dialogue(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Score the dialogue agents of a profile."""
    evaluate_dialogue_stage(StageContext.load(profile=profile, overrides=overrides or ()))
