"""Rows that are a prompt without a ground truth: where they are accepted, how they are split, counted and told apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.corpus.examples import read_examples, read_json_lines, write_examples
from models.corpus.fields import BadRecord
from models.corpus.formats import LeftOut, parse_row
from models.corpus.prepare import prepare_corpus
from models.errors import DataError
from models.metrics_sink import NullSink
from models.params.corpus import CorpusParams, CorpusSet
from models.schema import Example, Message

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Why?"}]
ALONE = [
    ("alpaca", {"instruction": "Add.", "input": "2 and 3"}),
    ("alpaca", {"instruction": "Add.", "output": ""}),
    ("alpaca", {"instruction": "Add.", "output": None}),
    ("qa", {"question": "Why?", "answer": " \n"}),
    ("prompt", {"prompt": "Why?"}),
    ("messages", {"messages": TURNS}),
    ("messages", {"messages": [{"role": "user", "content": "Hi", "weight": 0}]}),
    ("text", {"text": "Once upon"}),
]


def cfg(format: str, **fields: Any) -> CorpusSet:
    return CorpusSet(name="set", path="x.jsonl", format=format, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("format", "row"), ALONE)
def test_a_prompt_alone_is_accepted_only_where_the_set_says_so(format: str, row: dict[str, Any]) -> None:
    example = parse_row(row, cfg(format, prompts_only=True, check="contains"), number=1)
    assert (example.response, example.answer, example.check) == (None, None, "none")
    assert example.messages[-1].role == "user"
    with pytest.raises((BadRecord, LeftOut)):
        parse_row(row, cfg(format), number=1)


def test_every_turn_of_a_conversation_that_ends_with_the_user_is_prompt() -> None:
    example = parse_row({"system": "Be kind.", "messages": TURNS}, cfg("messages", prompts_only=True), number=1)
    assert [m.content for m in example.messages] == ["Be kind.", "Hi", "Hello", "Why?"]


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("alpaca", {"instruction": "Add.", "output": "5"}),
        ("prompt", {"prompt": "Add.", "response": "5"}),
        ("qa", {"question": "Add.", "answer": "5"}),
        ("messages", {"messages": [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "5"}]}),
        ("text", {"text": "Add." + " " * 60 + "5"}),
    ],
)
def test_a_row_with_a_response_keeps_it(format: str, row: dict[str, Any]) -> None:
    assert parse_row(row, cfg(format, prompts_only=True), number=1) == parse_row(row, cfg(format), number=1)


def test_a_response_that_is_no_text_is_an_error_still() -> None:
    with pytest.raises(BadRecord, match="must have text in `output`"):
        parse_row({"instruction": "Add.", "output": 5}, cfg("alpaca", prompts_only=True), number=1)


def test_what_a_right_answer_holds_may_be_known_without_a_response() -> None:
    row = {"instruction": "Add 2 and 3.", "reference": "5"}
    example = parse_row(row, cfg("alpaca", prompts_only=True, check="number"), number=1)
    assert (example.response, example.answer, example.check) == (None, "5", "number")


def test_a_blank_response_names_the_param_that_allows_it() -> None:
    for format, row in (("alpaca", {"instruction": "Add.", "output": ""}), ("messages", {"messages": TURNS})):
        with pytest.raises(BadRecord) as caught:
            parse_row(row, cfg(format), number=1)
        assert "prompts_only" in caught.value.hint


def test_prompts_alone_survive_the_round_trip_and_others_are_written_as_ever(tmp_path: Path) -> None:
    pair = [Example("a", "f", (Message("user", "Why?"),), None), Example("b", "f", (Message("user", "Why?"),), "So.")]
    write_examples(tmp_path / "x.jsonl", pair)
    assert list(read_examples(tmp_path / "x.jsonl")) == pair
    alone, whole = read_json_lines(tmp_path / "x.jsonl")
    assert list(alone) == ["id", "family", "messages"] and list(whole) == ["id", "family", "messages", "response"]
    with pytest.raises(ValueError, match="example `a` has no ground truth"):
        _ = pair[0].ground_truth


def prepared(tmp_path: Path, **sets: tuple[list[dict[str, Any]], dict[str, Any]]) -> tuple[Any, dict[str, list[Example]], Any]:
    specs = []
    for name, (rows, fields) in sets.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        specs.append(CorpusSet(name=name, path=f"{name}.jsonl", format="qa", **fields))
    out = tmp_path / "out"
    record = prepare_corpus(
        CorpusParams(kind="files", sets=tuple(specs), test_fraction=0.3), root=tmp_path, out=out, sink=NullSink()
    )
    splits = {split: list(read_examples(out / f"{split}.jsonl")) for split in ("train", "valid", "test")}
    return record, splits, json.loads((out / "stats.json").read_text())


def questions(start: int, stop: int, answer: str | None = None) -> list[dict[str, Any]]:
    return [{"question": f"What is {i} doubled?"} | ({"answer": answer} if answer else {}) for i in range(start, stop)]


def test_prompts_alone_are_split_by_their_prompt_and_counted(tmp_path: Path) -> None:
    _, whole, _ = prepared(tmp_path, a=(questions(0, 100, "x"), {}))
    record, splits, stats = prepared(tmp_path, a=(questions(0, 100), {"prompts_only": True}), b=(questions(100, 120, "x"), {}))
    for split in splits:
        assert [e.id for e in splits[split] if e.response is None] == [e.id for e in whole[split]]
        assert stats["splits"][split]["prompts_only"] == len(whole[split]) == record.to_json()["prompts_only"][split]
    assert record.train == len(splits["train"]) > record.prompts_only["train"]


def test_without_such_rows_nothing_says_so(tmp_path: Path) -> None:
    """The statistics are part of what every signal is bound to: a new key would make all of them again."""
    record, _, stats = prepared(tmp_path, a=(questions(0, 50, "x"), {"prompts_only": True}))
    assert "prompts_only" not in record.to_json()
    assert all("prompts_only" not in split for split in stats["splits"].values())


def test_a_prompt_that_is_there_already_is_a_duplicate(tmp_path: Path) -> None:
    """Once with a ground truth, or once without; but the ground truth must have been kept."""
    more = [{"question": "what IS 3  doubled?"}, {"question": "New?"}, {"question": "New?"}]
    record, splits, _ = prepared(
        tmp_path,
        truths=(questions(0, 40, "x"), {"split": "train", "limit": 10}),
        prompts=(questions(0, 40) + more, {"split": "train", "prompts_only": True}),
    )
    kept = {e.messages[0].content for e in splits["train"] if e.response is not None}
    alone = {e.messages[0].content for e in splits["train"] if e.response is None}
    assert (len(kept), len(alone)) == (10, 31)
    assert not kept & alone
    assert (record.duplicate, record.over_limit) == (10 + 2, 30)


@pytest.mark.parametrize("held_out", ["truths", "prompts"])
def test_leaks_are_found_between_the_two_kinds(tmp_path: Path, held_out: str) -> None:
    split = {name: "test" if name == held_out else "train" for name in ("truths", "prompts")}
    sets = {
        "truths": (questions(0, 20, "x"), {"split": split["truths"]}),
        "prompts": (questions(15, 40), {"split": split["prompts"], "prompts_only": True}),
    }
    record, splits, _ = prepared(tmp_path, **sets)  # type: ignore[arg-type]
    assert record.leaked == 5
    assert not {e.messages for e in splits["train"]} & {e.messages for e in splits["test"]}


def test_training_prompts_may_all_be_without_a_ground_truth_but_there_must_be_some(tmp_path: Path) -> None:
    record, _, _ = prepared(tmp_path, a=(questions(0, 9), {"split": "train", "prompts_only": True}))
    assert record.prompts_only == {"train": 9}
    with pytest.raises(DataError, match="nothing to train on"):
        prepared(tmp_path, a=(questions(0, 9), {"split": "test", "prompts_only": True}))
