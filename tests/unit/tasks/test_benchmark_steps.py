"""What enters the key of a benchmark's step, and the table that is made of runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParamsError
from models.evaluation.benchmarks import harness
from models.evaluation.benchmarks.records import BenchmarkItem, BenchmarkRun, write_run
from models.params.benchmark import BenchmarkShard
from models.params.runtime import Runtime
from tasks.artifact import Artifact, publish
from tasks.benchmark import BENCHMARKS, RUN, benchmark, benchmark_scores, harness_identity, require_local
from tasks.caching import step_key

CFG = BenchmarkShard(name="arc_easy", num_fewshot=0, limit=4, batch_size=2, data="bench/arc_easy")


@pytest.fixture
def model(project: Path) -> Artifact:
    (project / "bench" / "arc_easy").mkdir(parents=True)
    (project / "bench" / "arc_easy" / "arc_easy.jsonl").write_text("{}\n")
    return put(project, "model", "weights")


def put(project: Path, name: str, text: str) -> Artifact:
    (project / name).mkdir()
    (project / name / "file").write_text(text)
    return publish(project / name, name, meta={"name": name})


def key(model: Artifact, **changes: Any) -> str:
    given = {"cfg": CFG, "system": model, "folder": ".", "harness": "0.4.13 {}", "runtime": Runtime(), **changes}
    return step_key(benchmark.cache_policy.function, given, name="benchmark")  # type: ignore[union-attr]


def test_the_key_holds_model_choices_definitions_and_data_and_no_place(project: Path, model: Artifact) -> None:
    known = key(model)
    assert known == key(model, runtime=Runtime(device="cuda:1", workers=4))
    others = [CFG.model_copy(update=change) for change in ({"limit": 5}, {"num_fewshot": 1}, {"name": "piqa"}, {"batch_size": 1})]
    assert known not in [key(model, cfg=other) for other in others]
    assert known != key(model, harness="0.4.14 {}")
    assert known != key(put(project, "other", "other weights"))
    (project / "bench" / "arc_easy").rename(project / "moved")
    assert known == key(model, cfg=CFG.model_copy(update={"data": "moved"}))
    (project / "moved" / "arc_easy.jsonl").write_text('{"another": "row"}\n')
    assert known != key(model, cfg=CFG.model_copy(update={"data": "moved"}))


def test_the_identity_of_the_harness_holds_its_definition(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "tasks" / "arc").mkdir(parents=True)
    definition = project / "tasks" / "arc" / "arc_easy.yaml"
    definition.write_text("task: arc_easy\n")
    monkeypatch.setattr(harness, "harness_version", lambda: "0.4.13")
    monkeypatch.setattr(harness, "definitions_folder", lambda: project / "tasks")
    before = harness_identity("arc_easy")
    assert before.startswith("0.4.13 ") and harness_identity("unheard_of") == "0.4.13"
    definition.write_text("task: arc_easy\ndoc_to_text: other\n")
    assert harness_identity("arc_easy") != before


def test_a_missing_file_is_found_before_anything_runs(project: Path, model: Artifact) -> None:
    require_local(CFG)
    require_local(CFG.model_copy(update={"data": ""}))
    with pytest.raises(DataError, match=r"bench/piqa/piqa\.jsonl must exist"):
        require_local(CFG.model_copy(update={"name": "piqa", "data": "bench/piqa"}))
    with pytest.raises(ParamsError, match=r"must be 0 where bench/arc_easy has no `arc_easy_train\.jsonl`"):
        require_local(CFG.model_copy(update={"num_fewshot": 5}))


def test_the_table_has_every_system_and_their_differences(project: Path) -> None:
    items = tuple(BenchmarkItem("arc_easy", i, str(i), {"acc": float(i % 2)}) for i in range(20))
    owl = BenchmarkRun("arc_easy", "acc", 0, "1.0", "0.4.13", items)
    sft = replace(owl, items=tuple(replace(item, values={"acc": 1.0}) for item in items))
    runs = []
    for name, run in (("owl", owl), ("sft", sft)):
        (project / name).mkdir()
        write_run(project / name / RUN, run)
        runs.append(publish(project / name, "benchmark", meta={}))
    systems = ({"name": "owl", "kind": "untrained", "target": "owl"}, {"name": "sft", "kind": "method", "target": "owl"})
    how: dict[str, Any] = {"bootstrap_samples": 200, "confidence": 0.95, "seed": 0}
    made = benchmark_scores.fn(systems, runs=(tuple(runs),), limited=(False,), **how)
    found = json.loads((made.path / BENCHMARKS).read_text())
    assert [(row["system"], row["value"], row["n"] if "n" in row else row["num"]) for row in found["table"]] == [
        ("owl", 0.5, 20),
        ("sft", 1.0, 20),
    ]
    assert [(row["family"], row["value"], row["verdict"]) for row in found["comparisons"]] == [("arc_easy", 0.5, "better")]


def test_without_benchmarks_the_table_is_empty(project: Path) -> None:
    made = benchmark_scores.fn((), runs=(), limited=(), bootstrap_samples=200, confidence=0.95, seed=0)
    assert json.loads((made.path / BENCHMARKS).read_text()) == {"confidence": 0.95, "table": [], "comparisons": []}
