"""Plots show the figures they are given."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from models.errors import DataError
from models.evaluation.fusion.scores import TableRow
from models.reporting.canvas import ACCENT, png_bytes, svg_text
from models.reporting.fusion.plots import _running_mean, plot_comparison, plot_coverage, plot_losses


def _texts(figure: Figure) -> set[str]:
    return {t.get_text() for axes in figure.axes for t in axes.texts} | {axes.get_title(loc="left") for axes in figure.axes}


def test_every_system_and_family_has_its_interval(table: tuple[TableRow, ...]) -> None:
    figure = plot_comparison(table, metric="accuracy")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["all", "reasoning", "safety"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["solver", "scholar (untrained)", "sft", "profuser"]
    row = next(r for r in table if (r.system.name, r.family, r.metric) == ("profuser", "safety", "accuracy"))
    spans = [line.get_xdata() for line in figure.axes[2].lines if line.get_color() == ACCENT and len(line.get_xdata()) == 2]
    assert np.allclose(spans, [[100 * row.low, 100 * row.high]])
    assert f"{100 * row.value:.1f}" in _texts(figure)
    assert svg_text(figure) == svg_text(plot_comparison(table, metric="accuracy"))


def test_many_families_go_into_rows(table: tuple[TableRow, ...]) -> None:
    many = [replace(row, family=f"family{i}") for i in range(6) for row in table if row.family == "all"]
    figure = plot_comparison(many, metric="bits_per_byte")
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 6
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_an_unknown_metric_is_an_error(table: tuple[TableRow, ...]) -> None:
    with pytest.raises(DataError, match="metric `speed`"):
        plot_comparison(table, metric="speed")


def test_loss_panels_are_those_with_values_and_the_legend_names_all() -> None:
    rows = [{"step": i, "train/sft_gt": 1.0 / i, "train/lr": 0.1} for i in range(1, 9)]
    late = [{"step": i, "train/kl_response": 1.0} for i in range(4, 9)]
    figure = plot_losses({"sft": rows, "profuser": late})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["cross-entropy of the ground truth", "KL to the voted winner (inference mode)"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["sft", "profuser"]
    drawn = figure.axes[0].lines[0]
    assert np.allclose(drawn.get_ydata(), [1 / i for i in range(1, 9)])
    assert figure.axes[1].lines[1].get_color() == ACCENT


def test_no_history_is_an_error() -> None:
    with pytest.raises(DataError, match="training history"):
        plot_losses({"sft": [{"step": 1, "other": 2.0}]})


def test_the_running_mean_keeps_length_ends_and_constants() -> None:
    assert np.allclose(_running_mean(np.full(30, 2.5), 3), 2.5)
    smooth = _running_mean(np.arange(10.0), 2)
    assert len(smooth) == 10
    assert np.allclose(smooth[[0, 5, 9]], [1.0, 5.0, 8.0])


def test_coverage_bars_are_shares(agreement: dict[str, Any]) -> None:
    figure = plot_coverage({"solver": {"num_positions": 200, "num_aligned": 150, "num_lossy": 0, "num_fallback": 0}})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([75, 25])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["taught by the source", "no teacher"]
    with pytest.raises(DataError, match="at least one bar"):
        plot_coverage({})
