"""Plots of the dialogue half draw the figures they are given."""

import numpy as np
import pytest

from models.errors import DataError
from models.reporting.canvas import png_bytes
from models.reporting.dialogue.data import DialogueReportData
from models.reporting.dialogue.plots import (
    has_curves,
    plot_agreement_curves,
    plot_dialogue_scores,
    plot_recall_at_k,
    plot_retriever_curves,
)


def test_scores_have_a_panel_per_metric_and_a_line_per_system(dialogue_report: DialogueReportData) -> None:
    figure = plot_dialogue_scores(dialogue_report.table, metrics=("bleu", "entity_f1", "nothing"))
    assert len(figure.axes) == 2
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["none", "prompt", "fused, none", "fused + prompt"]
    row = next(r for r in dialogue_report.table if (r.system.name, r.metric, r.domain) == ("prompt", "entity_f1", "all"))
    drawn = [line.get_xdata() for line in figure.axes[1].lines]
    assert any(np.allclose(x, [100 * row.low, 100 * row.high]) for x in drawn if len(x) == 2)
    assert any(np.allclose(x, [100 * row.value]) for x in drawn if len(x) == 1)


def test_a_retriever_stands_once(dialogue_report: DialogueReportData) -> None:
    figure = plot_dialogue_scores(dialogue_report.table, metrics=("recall_value@7", "mrr"))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["none", "prompt", "warm start", "BM25"]


def test_recall_at_k_by_rule(dialogue_report: DialogueReportData) -> None:
    figure = plot_recall_at_k(dialogue_report.table)
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "Recall@k by value", "Recall@k by id", "Recall@k by id, first mentions",
    ]  # fmt: skip
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert set(lines) == {"none", "prompt", "warm start", "BM25"}
    expected = [
        100
        * next(
            r.value
            for r in dialogue_report.table
            if (r.system.name, r.metric, r.domain) == ("prompt", f"recall_value@{k}", "all")
        )
        for k in (1, 7)
    ]
    assert np.allclose(lines["prompt"].get_ydata(), expected)


def test_curves_with_the_warm_start(dialogue_report: DialogueReportData) -> None:
    figure = plot_retriever_curves(dialogue_report.histories, warm=dialogue_report.warm)
    assert len(figure.axes) == 1  # of one rule only the main k
    assert figure.axes[0].get_title(loc="left") == "Recall@7 by value, %"
    lines = {str(line.get_label()): line.get_ydata() for line in figure.axes[0].lines}
    assert np.allclose(lines["warm start"], 60)
    assert np.allclose(lines["prompt"], 60 + np.arange(10))


def test_agreement_is_smoothed_where_it_is_long() -> None:
    rows = [{"step": s, "train/agreement_top1": 0.4 + 0.1 * (-1) ** s} for s in range(100)]
    axes = plot_agreement_curves({"prompt": rows}).axes[0]
    raw, smooth = (np.asarray(line.get_ydata()) for line in axes.lines)
    assert np.allclose(raw, [40 + 10 * (-1) ** s for s in range(100)])
    assert np.abs(smooth - 40).max() < 2
    assert has_curves({"prompt": rows}) == (False, True)


def test_agreement_on_the_validation_split_goes_before_that_of_batches() -> None:
    rows = [{"step": 1, "valid/agreement_top1": 0.5, "train/agreement_top1": 0.9, "valid/agreement_tau": 0.2}]
    figure = plot_agreement_curves({"none": rows})
    assert [float(axes.lines[0].get_ydata()[0]) for axes in figure.axes] == pytest.approx([50, 0.2])


def test_equal_data_give_equal_bytes(dialogue_report: DialogueReportData) -> None:
    one, other = (png_bytes(plot_retriever_curves(dialogue_report.histories)) for _ in range(2))
    assert one == other


def test_nothing_to_draw_is_an_error(dialogue_report: DialogueReportData) -> None:
    for draw in (
        lambda: plot_dialogue_scores(dialogue_report.table, metrics=("nothing",)),
        lambda: plot_recall_at_k([]),
        lambda: plot_retriever_curves({"none": [{"step": 1, "train/loss": 1.0}]}),
        lambda: plot_agreement_curves({}),
    ):
        with pytest.raises(DataError, match="nothing to draw"):
            draw()
