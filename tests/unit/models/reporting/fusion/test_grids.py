"""What each method was trained on, as tables."""

from typing import Any

import pytest

from models.evaluation.fusion.scores import ComparisonRow, System, TableRow
from models.reporting.fusion.data import ReportData
from models.reporting.fusion.grids import (
    RegimeScores,
    agreement_grid,
    agreement_sentence,
    coverage_grid,
    coverage_shares,
    exposure_grid,
    pair_grid,
    regime_grid,
    scorer_grid,
    token_weight_grid,
    win_grid,
    winner_sentence,
)
from models.reporting.fusion.page import render_report

Records = dict[str, dict[str, Any]]


def test_passes_and_rates_of_every_method(trainings: Records) -> None:
    grid = exposure_grid(trainings)
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["sft", "304", "0", "8.00", "153.0", "153.0", "0.00", "0.0", "0.0"],
        ["profuser", "1,456", "1,152", "8.00", "153.0", "139.1", "12.00", "9.0", "8.0"],
    ]
    assert len(grid.header) == 9 and grid.notes[0].startswith("Budget `ground_truth`: All methods pass over the ground truth")


def test_weight_of_a_winners_token(trainings: Records) -> None:
    grid = token_weight_grid(trainings)
    assert grid is not None
    assert [[cell.text for cell in row] for row in grid.rows] == [["profuser", "2", "0.1", "1", "500", "2,500", "0.500"]]
    assert token_weight_grid({"sft": trainings["sft"]}) is None
    assert "divided by its own tokens" in grid.notes[0]


def test_both_stand_in_the_page(report: ReportData) -> None:
    page = render_report(report)
    assert "1,152" in page and "winners: Σ lr, by weight" in page and "token weight" in page


def test_scorers_stand_with_interval_pairs_and_picks(quality: dict[str, Any]) -> None:
    grid = scorer_grid(quality)
    assert [c.text for c in grid.rows[0]] == ["rm", "no", "check", "47.5", "40", "50.0", "30"]
    assert (grid.rows[0][0].detail, grid.rows[0][3].detail) == ("reward_model", "[40.0, 55.0]")
    assert [c.text for c in grid.rows[1]][3] == "by definition"
    assert [(row[0].text, row[5].text) for row in grid.rows[2:]] == [
        ("the vote", "90.0"),
        ("any source", "45.0"),
        ("the best possible choice", "95.0"),
    ]
    assert {len(row) for row in grid.rows} == {len(grid.header)}


def test_a_scorer_without_pairs_is_a_dash(quality: dict[str, Any]) -> None:
    row = quality["scorers"][0] | {"accuracy": None, "low": None, "high": None, "num_pairs": 0}
    assert [c.text for c in scorer_grid(quality | {"scorers": [row]}).rows[0]][3:5] == ["–", "0"]


def test_winners_in_words(winners: dict[str, Any]) -> None:
    sentence = winner_sentence(winners)
    assert sentence.startswith("8 of 10 prompts have a winner in inference mode; the others take no part in it: ")
    assert "on 1 the vote was not clear enough, on 1 no answer was finished" in sentence
    assert "75.0 % of the 8 winners that can be checked are right" in sentence
    assert "random would be on 45.0 % of the prompts, the best choice on 90.0 %" in sentence
    assert "inference mode, 3 of them an answer that was cut; the others" in winner_sentence(winners | {"cut": 3})
    assert winner_sentence(winners | {"without_winner": {}, "winners": 10, "checked": 0}) == (
        "10 of 10 prompts have a winner in inference mode."
    )


def test_the_page_shows_them(report: ReportData) -> None:
    html = render_report(report)
    assert "How good the scorers are" in html
    assert "no better than &lt;chance&gt;" in html
    assert "8 of 10 prompts have a winner" in html


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


def test_prompts_of_either_kind_are_counted_below_the_passes(trainings: Records) -> None:
    assert not any("Prompts:" in note for note in exposure_grid(trainings).notes)
    counts = {"ground_truth": {"samples": 256}, "response": {"samples": 1400}}
    some = {
        name: {**record, **counts, "exposure": {**record["exposure"], "prompts_only": 1150}} for name, record in trainings.items()
    }
    notes = [note for note in exposure_grid(some).notes if note.startswith("Prompts:")]
    assert notes == [
        "Prompts: 256 with a ground truth, 1,400 with a winning answer; 1,150 of the latter are without a ground truth to train "
        "on and take part in inference mode only."
    ]


def regime(name: str, *, sft: float, profuser: float, difference: tuple[float, float, float]) -> RegimeScores:
    """Scores of three sources and two methods of one target; `b` is the best source of the validation split."""
    target = System("a", "untrained", "a")
    systems = {"sft": System("sft", "method", "a"), "profuser": System("profuser", "method", "a")}
    scores = {
        System("a", "source"): 0.5,
        System("b", "source"): 0.4,
        target: 0.5,
        systems["sft"]: sft,
        systems["profuser"]: profuser,
    }
    table = [TableRow(s, family, "accuracy", v, v - 0.1, v + 0.1, 300) for s, v in scores.items() for family in ("all", "words")]
    value, low, high = difference
    comparisons = [
        ComparisonRow(systems["profuser"], systems["sft"], "all", "accuracy", value, low, high, 0.01, 300),
        ComparisonRow(
            systems["profuser"], System("b", "source"), "all", "accuracy", 0.3, 0.2, 0.4, 0.001, 300, "chosen on valid"
        ),
        ComparisonRow(systems["sft"], target, "all", "accuracy", 0.1, 0.0, 0.2, 0.05, 300),
    ]
    return RegimeScores(name, table, comparisons)


def test_regimes_stand_next_to_each_other() -> None:
    few = regime("few", sft=0.4, profuser=0.8, difference=(0.4, 0.3, 0.5))
    many = regime("many", sft=0.9, profuser=0.7, difference=(-0.2, -0.3, -0.1))
    grid = regime_grid([few, many], metric="accuracy")
    assert grid.header == ("", "few", "many") and "n = 300 each" in grid.title
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["best single source", "40.0", "40.0"],
        ["sft", "40.0", "90.0"],
        ["profuser", "80.0", "70.0"],
        ["profuser − sft", "+40.0 (better)", "−20.0 (worse)"],
        ["profuser − best single source", "+30.0 (better)", "+30.0 (better)"],
    ]
    assert [cell.mark for cell in grid.rows[2]] == ["", "best", ""]


def test_a_system_of_one_regime_only_leaves_the_other_empty() -> None:
    few = regime("few", sft=0.4, profuser=0.8, difference=(0.4, 0.3, 0.5))
    without = RegimeScores("bare", [row for row in few.table if row.system.name != "sft"], few.comparisons[1:])
    grid = regime_grid([few, without], metric="accuracy")
    assert {row[0].text: row[2].text for row in grid.rows}["sft"] == "–"
