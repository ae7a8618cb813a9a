"""Local files as data of lm-evaluation-harness's own definitions."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParamsError
from models.evaluation.benchmarks.local import require_file, write_definitions
from models.evaluation.benchmarks.table import KNOWN, headline_metric

TWO = {"question": "A cat _ sat.", "choices": ["one", "two"], "answer": 1}
FOUR = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "anatomy"}


@pytest.fixture
def harness(tmp_path: Path) -> Path:
    """A folder in the place of `lm_eval/tasks`: definitions are included by path, not read here."""
    for known in KNOWN.values():
        path = tmp_path / "tasks" / known.definition.format(subject="anatomy")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("task: x\n")
    return tmp_path / "tasks"


def put(folder: Path, name: str, *rows: Any, suffix: str = ".jsonl") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}{suffix}"
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    return path


def test_rows_get_the_fields_that_the_definition_reads() -> None:
    arc = KNOWN["arc_easy"].as_upstream(FOUR)
    assert arc == {
        "question": "Which?",
        "choices": {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]},
        "answerKey": "C",
    }
    winogrande = KNOWN["winogrande"].as_upstream(TWO)
    assert winogrande == {"sentence": "A cat _ sat.", "option1": "one", "option2": "two", "answer": "2"}
    assert KNOWN["piqa"].as_upstream(TWO) == {"goal": "A cat _ sat.", "sol1": "one", "sol2": "two", "label": 1}
    assert KNOWN["hellaswag"].as_upstream(FOUR) == {"query": "Which?", "choices": ["a", "b", "c", "d"], "label": 2}
    asked = {"question": "Q?", "best_answer": "Yes", "correct_answers": ["Yes", "It is."], "incorrect_answers": ["No"]}
    truth = KNOWN["truthfulqa_mc2"].as_upstream(asked)
    assert truth["mc1_targets"] == {"choices": ["Yes.", "No."], "labels": [1, 0]}
    assert truth["mc2_targets"] == {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]}


def test_a_definition_includes_the_original_and_replaces_only_its_data(tmp_path: Path, harness: Path) -> None:
    put(tmp_path / "data", "mmlu", FOUR, FOUR, suffix=".jsonl.gz")
    put(tmp_path / "data", "mmlu_dev_fewshot", FOUR)
    out = tmp_path / "out"
    out.mkdir()
    (made,) = write_definitions("mmlu", tmp_path / "data", harness=harness, num_fewshot=None, out=out)
    task = json.loads(made.read_text())
    assert task["include"] == str(harness / "mmlu/default/mmlu_anatomy.yaml")
    assert (task["test_split"], task["fewshot_split"], task["dataset_path"]) == ("test", "dev", "json")
    assert {"doc_to_text", "metric_list", "output_type"}.isdisjoint(task)
    rows = Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    assert [json.loads(row)["answer"] for row in rows] == [2, 2]


def test_solved_examples_need_a_file_of_their_own(tmp_path: Path, harness: Path) -> None:
    put(tmp_path / "data", "arc_easy", FOUR)
    with pytest.raises(ParamsError, match=r"num_fewshot.*of arc_easy must be 0 where d has no `arc_easy_train\.jsonl`.*but is 5"):
        write_definitions("arc_easy", tmp_path / "data", harness=harness, num_fewshot=5, out=tmp_path, place="d")
    put(tmp_path / "data", "arc_easy_train", FOUR)
    (made,) = write_definitions("arc_easy", tmp_path / "data", harness=harness, num_fewshot=5, out=tmp_path)
    assert json.loads(made.read_text())["fewshot_split"] == "train"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**FOUR, "answer": 4}, r"arc_easy\.jsonl:2: `answer` must be the index of one of the 4 choices, but is 4"),
        ({"question": "Which?"}, r"arc_easy\.jsonl:2: must have the field 'choices'"),
        ("{", r"arc_easy\.jsonl:2: must be one JSON object a line"),
        ("[1]", r"arc_easy\.jsonl:2: "),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, harness: Path, row: Any, said: str) -> None:
    put(tmp_path / "data", "arc_easy", FOUR, row)
    with pytest.raises(DataError, match=said):
        write_definitions("arc_easy", tmp_path / "data", harness=harness, num_fewshot=0, out=tmp_path)


def test_a_subject_without_a_definition_is_refused(tmp_path: Path, harness: Path) -> None:
    put(tmp_path / "data", "mmlu", {**FOUR, "subject": "alchemy"})
    with pytest.raises(DataError, match=r"`subject` must be one that lm-evaluation-harness defines, but is `alchemy`"):
        write_definitions("mmlu", tmp_path / "data", harness=harness, num_fewshot=0, out=tmp_path)


def test_a_missing_file_and_an_unknown_name_are_said_with_their_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bench/piqa/piqa\.jsonl must exist .* Put it there, or set `benchmark\.data`"):
        require_file("piqa", tmp_path, place="bench/piqa")
    with pytest.raises(ParamsError, match=r"must be one of arc_challenge, .* but is `lambada`\. Leave `benchmark\.data` empty"):
        require_file("lambada", tmp_path, place="bench/lambada")


def test_tables_lead_with_the_metric_that_each_benchmark_is_reported_by() -> None:
    assert headline_metric("hellaswag", {"acc": 0, "acc_norm": 0}) == "acc_norm"
    assert headline_metric("gsm8k", {"exact_match,strict-match": 0, "exact_match,flexible-extract": 0}).endswith(
        "flexible-extract"
    )
    assert headline_metric("unheard_of", {"f1": 0, "em": 0}) == "f1"
