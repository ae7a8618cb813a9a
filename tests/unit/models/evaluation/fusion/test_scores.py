"""Records of the evaluation and their files."""

from pathlib import Path

import pytest

from models.errors import ArtifactError
from models.evaluation.fusion.scores import ComparisonRow, ScoreRow, System, TableRow, read_scores, write_scores

_FUSED = System("profuser", "method", "scholar")
_SOURCE = System("scholar", "source")


def _rows() -> list[ScoreRow]:
    return [
        ScoreRow("b", "safety", 12.5, 9, 4, True, correct=False, rewards={"rm": -0.25, "chrf": 31.0}, text="né\n", finish="eos"),
        ScoreRow("a", "knowledge", 3.0, 2, 1, False),
    ]


def test_rows_come_back_in_order_and_bytes_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "scores" / "scholar.jsonl"
    assert write_scores(path, _rows()) == 2
    assert list(read_scores(path)) == _rows()
    first = path.read_bytes()
    write_scores(path, read_scores(path))
    assert path.read_bytes() == first
    assert [r.text for r in read_scores(path, with_text=False)] == [None, None]
    assert [p.name for p in path.parent.iterdir()] == ["scholar.jsonl"]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scholar.jsonl"
    write_scores(path, _rows()[:1])

    def broken() -> object:
        yield _rows()[1]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_scores(path, broken())  # type: ignore[arg-type]
    assert [r.id for r in read_scores(path)] == ["b"]


@pytest.mark.parametrize("line", ["{", '{"id": "x"}', '{"colour": 1}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scholar.jsonl"
    write_scores(path, _rows())
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"scholar\.jsonl` line 3"):
        list(read_scores(path))


def test_figures_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_scores(tmp_path / "x.jsonl", [ScoreRow("a", "f", float("nan"), 1, 1, True)])


def test_table_rows_round_trip() -> None:
    row = TableRow(_FUSED, "all", "accuracy", 0.5, 0.4, 0.6, 30, left_out=2)
    assert row.to_json()["target"] == "scholar"
    assert TableRow.from_json(row.to_json()) == row


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("accuracy", 0.01, 0.2, "better"),
        ("accuracy", -0.2, -0.1, "worse"),
        ("accuracy", -0.1, 0.1, "unclear"),
        ("accuracy", 0.0, 0.1, "unclear"),
        ("bits_per_byte", -0.2, -0.1, "better"),
        ("bits_per_byte", 0.1, 0.2, "worse"),
        ("reward/rm", 0.1, 0.2, "better"),
    ],
)
def test_the_verdict_knows_the_direction(metric: str, low: float, high: float, verdict: str) -> None:
    row = ComparisonRow(_FUSED, _SOURCE, "all", metric, (low + high) / 2, low, high, 0.1, 30, note="n")
    assert row.verdict == verdict
    assert ComparisonRow.from_json(row.to_json()) == row


def test_labels_tell_systems_apart() -> None:
    labels = [
        s.label for s in (_SOURCE, System("scholar", "untrained", "scholar"), _FUSED, System("profuser", "method", "solver"))
    ]
    assert labels == ["scholar", "scholar (untrained)", "profuser → scholar", "profuser → solver"]
