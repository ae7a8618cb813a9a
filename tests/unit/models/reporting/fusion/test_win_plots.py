"""Plots of wins and agreement."""

from typing import Any

import pytest

from models.errors import DataError
from models.reporting.canvas import png_bytes
from models.reporting.fusion.win_plots import plot_agreement, plot_win_table, source_colours


def test_bars_are_the_shares_from_the_top(wins: list[dict[str, Any]]) -> None:
    figure = plot_win_table(wins)
    training, inference = figure.axes
    assert [t.get_text() for t in training.get_yticklabels()] == ["all (n = 10)", "safety (n = 5)"]
    assert training.get_ylim()[0] > training.get_ylim()[1]
    assert [bar.get_width() for bar in training.patches] == pytest.approx([70, 40, 30, 60])
    assert [bar.get_width() for bar in inference.patches] == pytest.approx([40, 0, 60, 100])
    assert png_bytes(figure) == png_bytes(plot_win_table(wins))


def test_panels_that_differ_in_their_examples_name_both_numbers(wins: list[dict[str, Any]]) -> None:
    rows = [row | ({"num_examples": 4} if row["mode"] == "training" and row["family"] == "all" else {}) for row in wins]
    assert [t.get_text() for t in plot_win_table(rows).axes[0].get_yticklabels()] == ["all (n = 4, 10)", "safety (n = 5)"]


def test_a_source_keeps_its_colour() -> None:
    assert source_colours(["a", "b"])["a"] == source_colours(["a", "b", "c"])["a"]
    assert len(set(source_colours(list("abcdefgh")).values())) == 8


def test_agreement_shows_cells_and_both_rates(agreement: dict[str, Any]) -> None:
    figure = plot_agreement(agreement)
    cells, pairs = figure.axes
    assert [t.get_text() for t in cells.texts] == ["30 %", "40 %", "10 %", "20 %"]
    assert cells.get_title(loc="left") == "same winner in 50 % of the examples"
    assert [t.get_text() for t in pairs.get_yticklabels()] == ["scholar beats solver"]
    assert [t.get_text() for t in pairs.texts] == ["68", "45"]


def test_nothing_is_an_error(agreement: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="win table"):
        plot_win_table([])
    with pytest.raises(DataError, match="agreement"):
        plot_agreement({**agreement, "confusion": {"sources": ["a"], "counts": [[0]]}})
