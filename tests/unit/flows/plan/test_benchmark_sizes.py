"""Sizes of the benchmarks in the estimates of `plan`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.plan.benchmark_sizes import benchmark_sizes
from models.evaluation.benchmarks.table import KNOWN
from models.params.benchmark import BenchmarkParams
from models.planning.benchmark_estimate import BenchmarkSize

FOUR = {"question": "12345", "choices": ["a", "bb", "ccc", "dddd"], "answer": 0}


def sizes(root: Path, *tasks: dict[str, Any], data: str = "data", limit: int | None = None):
    cfg = BenchmarkParams.model_validate({"tasks": tasks, "data": data, "limit": limit})
    return benchmark_sizes(SimpleNamespace(root=root, params=SimpleNamespace(benchmark=cfg)))  # type: ignore[arg-type]


def put(root: Path, place: str, *rows: dict[str, Any]) -> None:
    path = root / "data" / f"{place}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_local_files_are_counted_a_sequence_a_choice(tmp_path: Path) -> None:
    put(tmp_path, "arc_easy/arc_easy", FOUR, FOUR | {"question": "é"}, FOUR)
    known, unknown = sizes(tmp_path, {"name": "arc_easy", "limit": 2})
    assert unknown == []
    assert known == [BenchmarkSize("arc_easy", 2, 8, (4 * 5 + 10 + 4 * 2 + 10) / 8, 9)]


def test_choices_of_mmlu_are_letters_behind_one_prompt_and_its_limit_holds_for_each_subject(tmp_path: Path) -> None:
    put(tmp_path, "mmlu/mmlu", *(FOUR | {"subject": subject} for subject in "aab"))
    ((found,), _) = sizes(tmp_path, {"name": "mmlu"}, limit=1)
    assert (found.documents, found.sequences, found.longest_bytes) == (2, 2, 5 + 10 + 110)


def test_choices_of_truthfulqa_are_its_answers(tmp_path: Path) -> None:
    row = {"question": "q", "best_answer": "x", "correct_answers": ["x", "yy"], "incorrect_answers": ["zzz"]}
    put(tmp_path, "truthfulqa/truthfulqa", row)
    (one, two), _ = sizes(tmp_path, {"name": "truthfulqa_mc1"}, {"name": "truthfulqa_mc2"})
    assert (one.sequences, one.longest_bytes) == (2, 1 + 720 + 3)
    assert (two.sequences, two.sequence_bytes) == (3, 1 + 720 + 2)


def test_answers_of_gsm8k_are_written_and_its_examples_are_read(tmp_path: Path) -> None:
    put(tmp_path, "gsm8k_test/gsm8k_test", {"question": "q" * 100, "answer": "#### 1"})
    (plain,), _ = sizes(tmp_path, {"name": "gsm8k", "num_fewshot": 0})
    assert plain == BenchmarkSize("gsm8k", 1, 0, 100, 100, generated=256)
    (solved,), _ = sizes(tmp_path, {"name": "gsm8k"})
    assert solved.sequence_bytes == 100 + 5 * (100 + 287)


def test_without_files_a_benchmark_has_its_published_size() -> None:
    (found,), unknown = sizes(Path(), {"name": "piqa"}, {"name": "lambada_openai"}, data="")
    assert (found.documents, found.sequences) == (1838, 3676)
    assert unknown == ["lambada_openai"]
    (found,), _ = sizes(Path(), {"name": "mmlu", "limit": 2}, data="")
    assert found.documents == 2 * 57


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_known_benchmark_has_a_published_size(name: str) -> None:
    (found,), _ = sizes(Path(), {"name": name}, data="")
    assert found.documents > 0


@pytest.mark.parametrize("row", [{}, {"question": 1, "choices": []}, {"question": "q"}])
def test_a_file_that_is_missing_or_malformed_is_of_unknown_size(tmp_path: Path, row: dict[str, Any]) -> None:
    assert sizes(tmp_path, {"name": "piqa"}) == ([], ["piqa"])
    put(tmp_path, "piqa/piqa", row)
    assert sizes(tmp_path, {"name": "piqa"}) == ([], ["piqa"])
