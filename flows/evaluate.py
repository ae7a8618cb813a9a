"""Stage `evaluate_fusion`: every source, the untrained target and every method on the held-out split."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.encoders import scorer_content
from flows.fusion_systems import SystemKey, label, place_of, run_name, systems_of
from flows.parallel import Call, device_lanes, gather
from models.files import replacing, write_atomic
from models.params.evaluation import EvaluationParams
from tasks.artifact import Artifact, materialise_tree
from tasks.evaluation import SCORES, comparison, evaluation
from tasks.tracking import StageRun, finish_stage

_DEFAULTS = EvaluationParams()


def evaluate_fusion_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/evaluate_fusion/{test,valid}/<system> and comparison/, and reports/<profile>/fusion.json."""
    systems = systems_of(ctx)
    places = [place_of(s) for s in systems]
    test = dict(zip(places, evaluated(ctx, systems, "test"), strict=True))
    sources = [s for s in systems if s["kind"] == "source"]
    has_valid = int(ctx.input("prepare", "corpus").meta["valid"]) > 0
    judged = evaluated(ctx, sources, "valid") if has_valid else []
    valid = {str(s["name"]): a for s, a in zip(sources, judged, strict=False)}
    made = comparison(ctx.params.evaluation, tuple(systems), test=tuple(test.values()), valid=valid)
    parts = {f"test/{p}": a for p, a in test.items()} | {f"valid/{n}": a for n, a in valid.items()}
    materialise_tree(parts | {"comparison": made}, ctx.out("evaluate_fusion"))
    table = json.loads((made.path / SCORES).read_text(encoding="utf-8"))["table"]
    _write_reports(ctx, table)
    _track(ctx, systems, table, made)


def evaluated(ctx: StageContext, systems: Sequence[SystemKey], split: str) -> list[Artifact]:
    """Score the systems on a split, each on a device of its own where this process has several."""
    runtime, cfg = ctx.params.runtime, ctx.params
    # A judge behind an endpoint is asked by one evaluation at a time, as `runtime.concurrency` bounds the requests of one.
    asks = cfg.evaluation.answers and any(s.kind == "judge" for s in cfg.teach.rewards.scorers)
    return gather([_call(ctx, s, split) for s in systems], runtime=runtime, lanes=1 if asks else device_lanes(runtime))


def _call(ctx: StageContext, system: SystemKey, split: str) -> Call:
    name, target = str(system["name"]), str(system["target"])
    fused = system["kind"] == "method"
    made = ctx.input("fuse", name, target) if fused else ctx.input("sources", "models", name)
    voters = tuple(s for s in ctx.params.teach.rewards.scorers if s.grades)
    judges = {s.name: ctx.input("sources", "reward_models", s.name) for s in voters if s.kind == "reward_model"}
    # The bootstrap happens later: its settings do not make models answer again.
    cfg = ctx.params.evaluation.model_copy(
        update={key: getattr(_DEFAULTS, key) for key in ("bootstrap_samples", "confidence", "seed")}
    )
    return evaluation, {
        "cfg": cfg,
        "data": ctx.input("prepare", "corpus"),
        "system": made,
        "folder": "model" if fused else ".",
        "split": split,
        "voters": voters,
        "judges": judges,
        "encoders": {s.name: scorer_content(ctx, s) for s in voters if s.kind == "embedding"},
        "batch_size": ctx.params.teach.rewards.batch_size,
        "overflow": ctx.params.teach.prompt_overflow,
        "runtime": ctx.params.runtime,
        "run": _system_run(ctx, system),
    }


def _system_run(ctx: StageContext, system: Mapping[str, str | None]) -> StageRun:
    name, target = str(system["name"]), str(system["target"])
    return ctx.run(run_name(ctx, name, target) if system["kind"] == "method" else f"source-{name}")


def _write_reports(ctx: StageContext, table: Iterable[Mapping[str, Any]]) -> None:
    rows = [row for row in table if row["kind"] != "untrained"]
    # Few figures, so that `dvc metrics diff` fits a terminal; families and intervals stand in scores.csv.
    tree: dict[str, Any] = {}
    for row in rows:
        if row["family"] == "all" and row["metric"] in ("accuracy", "bits_per_byte"):
            tree.setdefault(label(ctx, row), {})[row["metric"]] = round(row["value"], 4)
    write_atomic(ctx.reports() / "fusion.json", json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
    headline = "accuracy" if any(row["metric"] == "accuracy" for row in rows) else "bits_per_byte"
    with replacing(ctx.reports() / "scores.csv") as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["system", "panel", "value", "low", "high", "n"])
        for row in rows:
            if row["metric"] in (headline, "bits_per_byte"):
                figures = [f"{row[k]:.6g}" for k in ("value", "low", "high")]
                writer.writerow([label(ctx, row), f"{row['metric']}, {row['family']}", *figures, row["n"]])


def _track(ctx: StageContext, systems: list[SystemKey], table: list[Mapping[str, Any]], made: Artifact) -> None:
    """Put the final figures on the run of each method and source, under the same names, so that they compare."""
    for system in systems:
        if system["kind"] == "untrained":
            continue
        fused = system["kind"] == "method"
        name = str(system["name"])
        artifact = ctx.input("fuse", name, str(system["target"])) if fused else ctx.input("sources", "models", name)
        finish_stage(
            _system_run(ctx, system), output=artifact.sha256, params={"method": name}, metrics=final_metrics(table, system)
        )
    finish_stage(ctx.run("evaluate"), output=made.sha256, params={}, metrics={}, files=[made.path / SCORES])


def final_metrics(table: Iterable[Mapping[str, Any]], system: Mapping[str, str | None]) -> dict[str, float]:
    """Return `final/<metric>_<family>` of one system."""
    return {
        f"final/{row['metric'].replace('/', '_')}_{row['family']}": float(row["value"])
        for row in table
        if (row["system"], row["kind"], row["target"]) == (system["name"], system["kind"], system["target"])
    }


@flow(name="evaluate_fusion")
def evaluate_fusion(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Score the sources and fused models of a profile."""
    evaluate_fusion_stage(StageContext.load(profile=profile, overrides=overrides or ()))
