"""What the page says of voters and winners."""

from typing import Any

from models.reporting.report_data import ReportData
from models.reporting.report_html import render_report
from models.reporting.scorer_grids import scorer_grid, winner_sentence


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
