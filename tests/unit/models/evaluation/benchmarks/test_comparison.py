"""Means, standard errors, intervals and paired differences of benchmark runs; their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import ArtifactError, DataError
from models.evaluation.benchmarks.comparison import benchmark_differences, benchmark_rows
from models.evaluation.benchmarks.records import BenchmarkItem, BenchmarkRow, BenchmarkRun, read_run, write_run
from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.scores import System

HOW = Resampling(samples=500)
OWL, SFT, MAIN = System("owl", "untrained", "owl"), System("sft", "method", "owl"), System("profuser", "method", "owl")


def run(values: list[int]) -> BenchmarkRun:
    items = tuple(BenchmarkItem("arc_easy", i, f"d{i}", {"acc": float(v), "acc_norm": 1.0}) for i, v in enumerate(values))
    return BenchmarkRun("arc_easy", "acc", 0, "1.0", "0.4.13", items)


RUNS = {OWL: run([0, 1] * 50), SFT: run([0, 1] * 50), MAIN: run([1, 1] * 50)}


def test_rows_have_mean_standard_error_and_interval() -> None:
    rows = benchmark_rows(RUNS, limited=True, resampling=HOW)
    owl = next(row for row in rows if row.system == OWL and row.metric == "acc")
    assert (owl.value, owl.num, owl.headline, owl.limited) == (0.5, 100, True, True)
    assert owl.stderr == pytest.approx(np.std([0, 1] * 50, ddof=1) / 10)
    assert owl.low == pytest.approx(0.4, abs=0.03) and owl.high == pytest.approx(0.6, abs=0.03)
    assert [row.headline for row in rows if row.metric == "acc_norm"] == [False] * 3
    assert BenchmarkRow.from_json(owl.to_json()) == owl


def test_a_single_document_has_no_standard_error() -> None:
    assert benchmark_rows({OWL: run([1])}, limited=False, resampling=HOW)[0].stderr is None


def test_differences_are_paired() -> None:
    found = {(d.a.name, d.b.name): d for d in benchmark_differences(RUNS, resampling=HOW)}
    gain, same = found["profuser", "sft"], found["sft", "owl"]
    assert (gain.value, gain.family, gain.metric, gain.verdict) == (0.5, "arc_easy", "acc", "better")
    # Equal answers to every document: without pairing the interval would be as wide as that of two systems.
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert benchmark_differences({OWL: RUNS[OWL]}, resampling=HOW) == []


def test_other_documents_cannot_be_compared() -> None:
    other = replace(RUNS[SFT], items=RUNS[SFT].items[:99])
    with pytest.raises(DataError, match=r"`sft → owl` on arc_easy must be scored on the 100 documents of `owl \(untrained\)`"):
        benchmark_rows({OWL: RUNS[OWL], SFT: other}, limited=False, resampling=HOW)


def test_a_run_survives_its_file_and_a_torn_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_run(path, RUNS[OWL])
    assert read_run(path) == RUNS[OWL]
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ArtifactError, match=r"is not a benchmark run .* Run the stage `benchmark` again"):
        read_run(path)
