import gzip
from pathlib import Path

import pytest

from models.data.tod_reader import ReadLog
from models.data.tod_rows import attributes_of, load_json, plain, texts_of, values_of
from models.data.validate import BadRecord
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
