"""Result files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ArtifactError, DataError
from models.evaluation.fusion.scores import ComparisonRow, TableRow
from models.reporting.results import (
    Result,
    ResultRow,
    comparison_result_rows,
    read_result,
    short_commit,
    table_result_rows,
    write_result,
)

_ROW = ResultRow("alignment", 123456.0, "tokens/s", 120000.0, 130000.0, 5, {"device": "cpu"})


def _result(*rows: ResultRow, name: str = "alignment-speed") -> Result:
    return Result(name, "python -m benchmarks.alignment", "0123456789abcdef", "2026-01-31", rows)


def test_a_result_comes_back_and_its_file_is_readable(tmp_path: Path) -> None:
    path = write_result(tmp_path / "results", _result(_ROW, ResultRow("vocab map", 3, "s")))
    assert path.name == "alignment-speed.json"
    assert read_result(path) == _result(_ROW, ResultRow("vocab map", 3, "s"))
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert list(raw) == ["name", "command", "commit", "date", "rows"]
    assert raw["rows"][0] == {
        "name": "alignment",
        "value": 123456.0,
        "unit": "tokens/s",
        "low": 120000.0,
        "high": 130000.0,
        "n": 5,
        "device": "cpu",
    }
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines[6:-2]] == raw["rows"]  # a row a line, for readable diffs
    assert [p.name for p in path.parent.iterdir()] == ["alignment-speed.json"]


def test_a_note_comes_back(tmp_path: Path) -> None:
    noted = replace(_result(_ROW), note="Measured before.")
    assert read_result(write_result(tmp_path, noted)) == noted


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (_result(_ROW, name="Bad Name"), "`name` must be lower-case"),
        (_result(), "`rows` must hold at least one figure"),
        (_result(ResultRow("x", float("nan"), "")), r"`rows\[0\].value` \(x\) must be finite"),
        (_result(ResultRow("x", 1.0, "", more={"value": 2})), "must not repeat fixed columns"),
    ],
)
def test_nonsense_is_not_written(tmp_path: Path, result: Result, said: str) -> None:
    with pytest.raises(DataError, match=said):
        write_result(tmp_path, result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}', '{"name":"x","command":"","commit":"","date":"","rows":[{}]}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"x\.json"):
        read_result(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Run the command that measures it"):
        read_result(tmp_path / "none.json")


def test_scores_become_rows_in_percent_and_points(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> None:
    cell = next(r for r in table if r.metric == "accuracy" and r.system.kind == "method")
    row = next(r for r in table_result_rows(table) if r.name == cell.system.label)
    assert (row.value, row.unit, row.num) == (pytest.approx(100 * cell.value), "%", cell.num)
    assert row.more == {"kind": "method", "target": "scholar", "family": "all", "metric": "accuracy", "left_out": 0}
    first = comparison_result_rows(comparisons)[0]
    assert (first.name, first.unit) == ("profuser → scholar − sft → scholar", "points")
    assert first.value == pytest.approx(100 * comparisons[0].value)
    assert first.more["verdict"] == comparisons[0].verdict


def test_a_tree_with_changes_keeps_its_plus() -> None:
    assert short_commit("0123456789ab+") == "0123456789+"
    assert short_commit("0123456789ab") == "0123456789"
    assert short_commit("none") == "none"
