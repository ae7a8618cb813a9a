"""What each method was trained on, as tables."""

from typing import Any

from models.reporting.exposure_grids import exposure_grid, token_weight_grid
from models.reporting.report_data import ReportData
from models.reporting.report_html import render_report

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
