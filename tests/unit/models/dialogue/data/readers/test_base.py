import gzip
from pathlib import Path
from typing import Any

import pytest

from models.corpus.fields import BadRecord
from models.dialogue.data.readers.base import (
    ReadLog,
    attributes_of,
    join_speakers,
    live_context,
    load_json,
    plain,
    texts_of,
    values_of,
)
from models.errors import DataError, Problem


def test_plain_text_is_lower_case_with_single_blanks() -> None:
    assert plain(" Pizza_Hut  City\tCentre ") == "pizza hut city centre"


def test_missing_values_are_absent_and_numbers_are_text() -> None:
    row = {
        "Name": "A_B",
        "stars": 4,
        "area": "-",
        "food": "dontknow",
        "phone": None,
        "fee": "?",
        "x": "Not Mentioned",
        "y": "dont_know",
        "gap": float("nan"),
        "far": float("-inf"),
        "none": "N/A",
        "open": True,
        "seats": 40.0,
    }
    assert attributes_of(row, within="row") == {"name": "a b", "stars": "4", "open": "yes", "seats": "40"}
    assert attributes_of(row, within="row", leave_out=frozenset({"stars", "seats", "open"})) == {"name": "a b"}


@pytest.mark.parametrize("row", [["x"], "x", {"a": ["x"]}, {"a": {}}, {"a": 1, " A": 1}])
def test_other_rows_are_malformed(row: object) -> None:
    with pytest.raises(BadRecord, match=r"`row(\.a)?`"):
        attributes_of(row, within="row")


def test_lists_of_texts() -> None:
    assert texts_of({"a": ["x"]}, "a") == ["x"]
    for row in ({}, {"a": "x"}, {"a": [1]}):
        with pytest.raises(BadRecord, match="`a`"):
            texts_of(row, "a")


def test_lists_of_values_may_hold_numbers() -> None:
    assert values_of({"a": ["X_1", 5, 4.0]}, "a") == ["x 1", "5", "4"]
    for row in ({}, {"a": 5}, {"a": [True]}, {"a": [None]}):
        with pytest.raises(BadRecord, match="`a`"):
            values_of(row, "a")


def test_small_files_are_read_without_their_comments(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('# (c)\n{"a": 1}')
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[1]"))
    assert load_json(tmp_path / "a.json") == {"a": 1}
    assert load_json(tmp_path / "a.json.gz") == [1]
    (tmp_path / "b.json").write_text("{")
    for name in ("b.json", "none.json"):
        with pytest.raises(DataError, match=name):
            load_json(tmp_path / name)


def test_a_finding_is_counted_once_however_often_it_is_read() -> None:
    log = ReadLog()
    for where in ("a:1", "a:2", "a:1"):
        log.add(Problem(where, "must be text"))
    assert [p.where for p in log.problems] == ["a:1", "a:2"]
    assert log.left_out == {"malformed": 2}


USER, BOT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}


def test_what_one_speaker_says_in_a_row_is_joined() -> None:
    said = [("user", "a"), ("user", "b"), ("system", ""), ("user", "c"), ("user", ""), ("system", "d")]
    assert join_speakers(said) == [("user", "a b"), ("system", ""), ("user", "c"), ("system", "d")]
    assert join_speakers([]) == []


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        (["welcome", "a"], ("welcome", "a")),
        (["a", "", "b"], ("a b",)),  # the system said nothing
        (["a\nSystem:  b"], ("a system: b",)),  # as in training: lower case, single blanks
        (["Post_Code \ud83d?"], ("post code \ufffd?",)),
        ([USER, USER, BOT, BOT, USER, {"role": "user", "content": "a pub"}], ("hi hi", "yes? yes?", "hi a pub")),
        ([BOT, USER], ("yes?", "hi")),
    ],
)
def test_contexts_of_a_conversation(context: list[Any], expected: tuple[str, ...]) -> None:
    assert live_context(context) == expected


@pytest.mark.parametrize("context", [[], [" "], ["a", "b", ""], [USER, BOT], [3], [{"role": "tool", "content": "x"}]])
def test_others_cannot_be_answered(context: list[Any]) -> None:
    with pytest.raises(DataError, match=r"`context(\[\d\])?` must"):
        live_context(context)
