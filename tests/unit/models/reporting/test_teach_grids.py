"""Wins, agreement and coverage in words and figures."""

from typing import Any

import pytest

from models.reporting.teach_grids import agreement_grid, agreement_sentence, coverage_grid, coverage_shares, pair_grid, win_grid


def test_wins_mark_the_most(wins: list[dict[str, Any]]) -> None:
    grid = win_grid(wins)
    assert grid.header == ("family", "mode", "scholar", "solver", "examples")
    line = grid.rows[0]
    assert [cell.text for cell in line] == ["all", "training mode", "70 %", "30 %", "10"]
    assert [cell.mark for cell in line[2:4]] == ["best", ""]


def test_the_papers_observation_is_said_with_the_widest_pair(agreement: dict[str, Any]) -> None:
    sentence = agreement_sentence(agreement)
    assert "scholar beats solver on 68 % of the examples in training mode and on 45 % in inference mode" in sentence
    assert "same winner on 50 %" in sentence
    assert agreement_sentence({**agreement, "pairwise": []}) == ""


def test_agreement_and_pairs(agreement: dict[str, Any]) -> None:
    assert [[c.text for c in row] for row in agreement_grid(agreement).rows] == [
        ["all", "50 %", "5", "10"],
        ["safety", "40 %", "2", "5"],
    ]
    first = pair_grid(agreement).rows[0]
    assert [c.text for c in first] == ["scholar beats solver", "68 %", "45 %", "−23"]
    assert [c.detail for c in first] == ["", "", "10 % ties", ""]


def test_a_pair_never_compared_is_a_dash(agreement: dict[str, Any]) -> None:
    row = {**agreement["pairwise"][0], "inference_share": None, "inference_tie_share": None}
    assert [c.text for c in pair_grid({**agreement, "pairwise": [row]}).rows[0]][2:] == ["–", "–"]
    assert agreement_sentence({**agreement, "pairwise": [row]}) == ""


def test_coverage_shares_add_up_to_one() -> None:
    shares = coverage_shares({"num_positions": 200, "num_aligned": 150, "num_lossy": 10, "num_fallback": 20})
    assert shares == pytest.approx({"aligned": 0.75, "fallback": 0.1, "lossy": 0.05, "none": 0.1})
    counts = {"num_positions": 200, "num_aligned": 150, "num_lossy": 10, "num_fallback": 20}
    for given, cut in ((counts, "0"), (counts | {"num_cut": 1234}, "1,234")):  # records of before cut texts were counted
        grid = coverage_grid({"solver": given})
        assert [c.text for c in grid.rows[0]] == ["solver", "75.0 %", "10.0 %", "5.0 %", "10.0 %", "200", cut]
