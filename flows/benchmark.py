"""Stage `benchmark`: standard benchmarks for every source, the untrained target and every method."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.fusion_systems import SystemKey, label, place_of, run_name, systems_of
from flows.parallel import Call, device_lanes, gather
from models.evaluation.benchmarks.table import KNOWN
from models.files import write_atomic
from models.params.benchmark import BenchmarkParams, BenchmarkShard, BenchmarkTask
from tasks.artifact import Artifact, materialise_tree
from tasks.benchmark import BENCHMARKS, benchmark_scores, harness_identity, require_local
from tasks.benchmark import benchmark as benchmark_step
from tasks.tracking import finish_stage


def benchmark_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/benchmark/<benchmark>/<system> and scores/, and reports/<profile>/benchmark.json.

    Without `benchmark.tasks` only an empty table is written.
    """
    cfg = ctx.params.benchmark
    systems = systems_of(ctx) if cfg.tasks else []
    models = [_model(ctx, system) for system in systems]
    shards = [shard(cfg, task) for task in cfg.tasks]
    for one in shards:
        # Before hours are spent on the others.
        require_local(one)
    known_as = {task.name: harness_identity(task.name) for task in cfg.tasks}
    # One system after another: its model is loaded once for all benchmarks.
    calls = [_call(ctx, model, one, known_as[one.name]) for model in models for one in shards]
    made = gather(calls, runtime=ctx.params.runtime, lanes=device_lanes(ctx.params.runtime))
    runs = [tuple(made[at :: len(cfg.tasks)]) for at in range(len(cfg.tasks))]
    scores = benchmark_scores(
        tuple(systems),
        runs=tuple(runs),
        limited=tuple(one.limit is not None for one in shards),
        bootstrap_samples=cfg.bootstrap_samples,
        confidence=cfg.confidence,
        seed=cfg.seed,
    )
    parts = {
        f"{task.name}/{place_of(system)}": run
        for task, row in zip(cfg.tasks, runs, strict=True)
        for system, run in zip(systems, row, strict=True)
    }
    materialise_tree({**parts, "scores": scores}, ctx.out("benchmark"))
    table = _table(scores)
    _write_report(ctx, table)
    _track(ctx, systems, models, table)


def shard(cfg: BenchmarkParams, task: BenchmarkTask) -> BenchmarkShard:
    """Return what the figures of one benchmark depend on."""
    known = KNOWN.get(task.name)
    return BenchmarkShard(
        name=task.name,
        num_fewshot=task.num_fewshot,
        limit=task.limit or cfg.limit,
        batch_size=cfg.batch_size,
        data=str(Path(cfg.data) / (known.folder if known else task.name)) if cfg.data else "",
    )


def _model(ctx: StageContext, system: SystemKey) -> tuple[Artifact, str]:
    """Return the artifact of a system, and the model's place in it."""
    name = str(system["name"])
    if system["kind"] == "method":
        return ctx.input("fuse", name, str(system["target"])), "model"
    return ctx.input("sources", "models", name), "."


def _call(ctx: StageContext, model: tuple[Artifact, str], one: BenchmarkShard, harness: str) -> Call:
    return benchmark_step, {
        "cfg": one,
        "system": model[0],
        "folder": model[1],
        "harness": harness,
        "runtime": ctx.params.runtime,
    }


def _table(scores: Artifact) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((scores.path / BENCHMARKS).read_text(encoding="utf-8"))["table"]
    return rows


def _write_report(ctx: StageContext, table: Sequence[Mapping[str, Any]]) -> None:
    tree: dict[str, Any] = {}
    for row in table:
        if row["headline"] and row["kind"] != "untrained":
            tree.setdefault(label(ctx, row), {})[row["benchmark"]] = round(row["value"], 4)
    write_atomic(ctx.reports() / "benchmark.json", json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def _track(
    ctx: StageContext,
    systems: Sequence[SystemKey],
    models: Sequence[tuple[Artifact, str]],
    table: Sequence[Mapping[str, Any]],
) -> None:
    """Put the figures on the run of each method and source."""
    for system, (model, _) in zip(systems, models, strict=True):
        if system["kind"] == "untrained":
            continue
        fused, name = system["kind"] == "method", str(system["name"])
        run = ctx.run(run_name(ctx, name, str(system["target"])) if fused else f"source-{name}")
        finish_stage(run, output=model.sha256, params={"method": name}, metrics=benchmark_metrics(table, system))


def benchmark_metrics(table: Sequence[Mapping[str, Any]], system: SystemKey) -> dict[str, float]:
    """Return `benchmark/<name>_<metric>_<k>shot_n<documents>` of one system.

    Figures of other prompts or documents have another name, so that one name never compares what cannot be compared.
    """
    return {
        f"benchmark/{row['benchmark']}_{row['metric'].replace(',', '_')}_{row['num_fewshot']}shot_n{row['num']}": float(
            row["value"]
        )
        for row in table
        if (row["system"], row["kind"], row["target"]) == (system["name"], system["kind"], system["target"])
    }


@flow(name="benchmark")
def benchmark(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Score the sources and fused models of a profile on standard benchmarks."""
    benchmark_stage(StageContext.load(profile=profile, overrides=overrides or ()))
