"""The section and the stage `benchmark`."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from flows import benchmark
from flows.benchmark import benchmark_metrics, shard
from models.params.benchmark import BenchmarkParams
from models.params.runtime import Runtime


def test_nothing_is_run_by_default() -> None:
    assert BenchmarkParams().tasks == ()


def test_names_must_be_distinct() -> None:
    with pytest.raises(ValidationError, match="names must be distinct, but piqa stands there twice"):
        BenchmarkParams.model_validate({"tasks": [{"name": "piqa"}, {"name": "piqa", "limit": 3}]})


def test_a_task_has_its_own_limit_and_its_own_folder() -> None:
    cfg = BenchmarkParams.model_validate(
        {"tasks": [{"name": "gsm8k", "limit": 3}, {"name": "truthfulqa_mc2"}], "limit": 50, "data": "data/bench"}
    )
    sums, truth = (shard(cfg, task) for task in cfg.tasks)
    assert (sums.limit, sums.data) == (3, "data/bench/gsm8k_test")
    assert (truth.limit, truth.data) == (50, "data/bench/truthfulqa")
    assert shard(cfg.model_copy(update={"data": ""}), cfg.tasks[0]).data == ""


def test_metrics_name_prompt_and_documents() -> None:
    row = {"system": "sft", "kind": "method", "target": "owl", "benchmark": "gsm8k", "metric": "exact_match,strict-match"}
    rows = [
        row | {"value": 0.25, "num_fewshot": 5, "num": 100},
        row | {"system": "fox", "value": 1.0, "num_fewshot": 5, "num": 9},
    ]
    found = benchmark_metrics(rows, {"name": "sft", "kind": "method", "target": "owl"})
    assert found == {"benchmark/gsm8k_exact_match_strict-match_5shot_n100": 0.25}


def test_the_stage_runs_one_model_after_another_and_publishes_under_readable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    shown: dict[str, Any] = {}
    systems = [{"name": "owl", "kind": "source", "target": None}, {"name": "sft", "kind": "method", "target": "owl"}]
    cfg = BenchmarkParams.model_validate({"tasks": [{"name": "arc_easy"}, {"name": "piqa"}], "limit": 2})

    def gather(given: list[Any], **_: Any) -> list[str]:
        calls.extend((arguments["system"], arguments["folder"], arguments["cfg"].name) for _, arguments in given)
        return [f"{model}:{name}" for model, _, name in calls]

    def scores(systems: Any, *, runs: Any, limited: Any, **_: Any) -> Any:
        shown.update(runs=runs, limited=limited)
        return "scores"

    monkeypatch.setattr(benchmark, "systems_of", lambda ctx: systems)
    monkeypatch.setattr(benchmark, "harness_identity", lambda name: "0.4.13")
    monkeypatch.setattr(benchmark, "gather", gather)
    monkeypatch.setattr(benchmark, "benchmark_scores", scores)
    monkeypatch.setattr(benchmark, "materialise_tree", lambda parts, place: shown.update(parts=parts))
    monkeypatch.setattr(benchmark, "_table", lambda scores: [])
    monkeypatch.setattr(benchmark, "_write_report", lambda ctx, table: None)
    monkeypatch.setattr(benchmark, "_track", lambda *_: None)
    params = SimpleNamespace(benchmark=cfg, runtime=Runtime(device="cpu"))
    ctx = SimpleNamespace(params=params, input=lambda *parts: "/".join(parts), out=lambda stage: stage)
    benchmark.benchmark_stage(ctx)  # type: ignore[arg-type]
    assert calls == [
        ("sources/models/owl", ".", "arc_easy"),
        ("sources/models/owl", ".", "piqa"),
        ("fuse/sft/owl", "model", "arc_easy"),
        ("fuse/sft/owl", "model", "piqa"),
    ]
    assert shown["runs"] == (
        ("sources/models/owl:arc_easy", "fuse/sft/owl:arc_easy"),
        ("sources/models/owl:piqa", "fuse/sft/owl:piqa"),
    )
    assert shown["limited"] == (True, True)
    assert shown["parts"]["piqa/method-sft-owl"] == "fuse/sft/owl:piqa" and shown["parts"]["scores"] == "scores"
