"""Plots of the dialogue half: scores with intervals, recall over k, and curves over training."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.errors import DataError, Problem
from models.evaluation.dialogue.metrics import higher_is_better
from models.evaluation.dialogue.scores import ALL_DOMAINS, DialogueTableRow
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.canvas import ACCENT, INK, MUTED, PALETTE, PAPER, PLAIN, QUIET, new_figure, quiet_axes, styled
from models.reporting.dialogue.formatting import (
    format_value,
    is_percent,
    is_retrieval,
    main_recall,
    metric_name,
    recall_ks,
    shown,
)

Floats = npt.NDArray[np.float64]
History = Sequence[Mapping[str, Any]]
"""Logged rows, each with `step` and some of the metrics."""

_COLOURS = {"none": QUIET, "prefix": PALETTE[0], "prompt": ACCENT, "contrastive": PALETTE[2]}
_MARKERS = {"variant": "o", "in_context": "D", "warm_start": "s", "floor": "^", "response_floor": "x"}
_FLOOR_MARKERS = {"bm25": "^", "frequency": "v"}
_SMOOTH_FROM = 40  # logged points from which a running mean is drawn over the raw curve
_LEGEND_WIDTH = 100  # characters of labels and handles that fit above a figure
# `valid/recall@7_value` of joint training; `retriever/recall@7` (by value) and `retriever/recall_id@7` of the warm start.
_RECALL_KEY = re.compile(r"(?:valid|retriever)/recall(?:_(id|value))?@(\d+)(?:_(id|value))?")
_AGREEMENT_KEY = re.compile(r"(?:valid|train)/agreement_(top1|tau|inversions)")
_AGREEMENT_TITLES = {
    "top1": "Same best entity, % of turns",
    "tau": "Kendall's τ of the two orders",
    "inversions": "Inverted pairs of entities a turn",
}
_PANELS = {
    "recall_value": "by value",
    "recall_id": "by id",
    "first_recall_id": "by id, first mentions",
}


@styled
def plot_dialogue_scores(rows: Sequence[DialogueTableRow], *, metrics: Sequence[str], domain: str = ALL_DOMAINS) -> Figure:
    """Draw value and interval of every system, one panel per metric; a retriever appears once, not with each of its generators.

    Raises:
        DataError: No row has one of the metrics.
    """
    retrieval = all(is_retrieval(metric) for metric in metrics)
    chosen = [row for row in rows if row.metric in metrics and row.domain == domain]
    chosen = [row for row in chosen if not retrieval or row.system.kind not in ("in_context", "response_floor")]
    known = [metric for metric in metrics if any(row.metric == metric for row in chosen)]
    if not known:
        raise _nothing("the results table", f"must hold rows of one of {list(metrics)}")
    systems = list(dict.fromkeys(row.system for row in chosen))
    figure = new_figure(height=150 + 43 * len(systems))
    panels = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, known, strict=True):
        for row in chosen:
            if row.metric == metric:
                _draw_interval(axes, row, systems.index(row.system))
        axes.set_title(_title(metric), fontsize=10, pad=22)
        said = "higher is better" if higher_is_better(metric) else "lower is better"
        axes.annotate(said, (0, 1), (0, 7), "axes fraction", "offset points", color=MUTED, fontsize=8.5)
        axes.margins(x=0.16)
        quiet_axes(axes, grid="x")
    panels[0].set_ylim(len(systems) - 0.5, -0.7)
    panels[0].set_yticks(range(len(systems)), [system.label for system in systems])
    return figure


@styled
def plot_recall_at_k(rows: Sequence[DialogueTableRow], *, domain: str = ALL_DOMAINS) -> Figure:
    """Draw recall over k of every retriever: by value, by id, and by id at first mentions only.

    Raises:
        DataError: There is no recall.
    """
    chosen = [row for row in rows if row.domain == domain and row.system.kind not in ("in_context", "response_floor")]
    ks = recall_ks(row.metric for row in chosen)
    known = {part: title for part, title in _PANELS.items() if any(row.metric.startswith(part) for row in chosen)}
    if not ks or not known:
        raise _nothing("the results table", "must hold recall@k")
    found = {(row.system, row.metric): row for row in chosen}
    systems = list(dict.fromkeys(row.system for row in chosen))
    figure = new_figure(height=400)
    panels = figure.subplots(1, len(known), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (part, title) in zip(panels, known.items(), strict=True):
        for at, system in enumerate(systems):
            points = [(place, found[key]) for place, k in enumerate(ks) if (key := (system, f"{part}@{k}")) in found]
            # Side by side, lest the intervals of systems hide each other.
            _draw_recalls(axes, system, points, shift=0.075 * (at - (len(systems) - 1) / 2))
        axes.set_title(f"Recall@k {title}", fontsize=10)
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        quiet_axes(axes, grid="y")
    panels[0].set_ylabel("% of turns that count")
    figure.supxlabel("retrieved entities k", fontsize=10, color=MUTED)
    _legend(figure, panels[0])
    return figure


@styled
def plot_retriever_curves(histories: Mapping[str, History], *, warm: Mapping[str, float] | None = None) -> Figure:
    """Draw recall of the retriever on the validation split over joint training, one line per variant.

    Args:
        histories: Variant → logged rows.
        warm: Logged metric (by either naming) → its value after the warm start, between 0 and 1: a dashed line.

    Raises:
        DataError: Nothing of the kind was logged.
    """
    keys = _recall_keys(histories)
    if not keys:
        raise _nothing("the training history", "must hold recall of the retriever")
    before = {_recall_name(key): value for key, value in (warm or {}).items()}
    figure = new_figure(height=360)
    panels = figure.subplots(1, len(keys), sharex=True, squeeze=False)[0]
    for axes, (key, name) in zip(panels, keys.items(), strict=True):
        _draw_lines(axes, histories, key, scale=100 if is_percent(name) else 1)
        if name in before:
            axes.axhline(shown(name, before[name]), color=INK, linestyle=(0, (4, 3)), linewidth=1.2, label="warm start")
        axes.set_title(_title(name), fontsize=10)
        quiet_axes(axes, grid="y")
    figure.supxlabel("optimiser step", fontsize=10, color=MUTED)
    _legend(figure, panels[0])
    return figure


@styled
def plot_agreement_curves(histories: Mapping[str, History]) -> Figure:
    """Draw over training how far retriever and generator agree on the order of the retrieved entities.

    Raises:
        DataError: Nothing of the kind was logged.
    """
    keys = _agreement_keys(histories)
    if not keys:
        raise _nothing("the training history", "must hold the agreement of retriever and generator")
    figure = new_figure(height=340)
    panels = figure.subplots(1, len(keys), sharex=True, squeeze=False)[0]
    for axes, (key, name) in zip(panels, keys.items(), strict=True):
        _draw_lines(axes, histories, key, scale=100 if name == "top1" else 1)
        axes.set_title(_AGREEMENT_TITLES[name], fontsize=10)
        quiet_axes(axes, grid="y")
    figure.supxlabel("optimiser step", fontsize=10, color=MUTED)
    _legend(figure, panels[0])
    return figure


def has_curves(histories: Mapping[str, History]) -> tuple[bool, bool]:
    """Whether the histories hold retriever curves, and agreement curves."""
    return bool(_recall_keys(histories)), bool(_agreement_keys(histories))


def _logged(histories: Mapping[str, History]) -> list[str]:
    """Return the logged metrics in alphabetical order."""
    return sorted({key for rows in histories.values() for row in rows for key in row})


def _recall_keys(histories: Mapping[str, History]) -> dict[str, str]:
    """Return logged metric → name of the metric: of each rule the recall at 7, else at the largest k."""
    known = {name: key for key in _logged(histories) if (name := _recall_name(key))}
    names = (main_recall(known, by=by) for by in ("value", "id"))
    return {known[name]: name for name in names if name}


def _recall_name(key: str) -> str:
    """Return the metric that a logged one is, `recall_value@7`; empty if it is not a recall."""
    match = _RECALL_KEY.fullmatch(key)
    return f"recall_{match[1] or match[3] or 'value'}@{match[2]}" if match else ""


def _agreement_keys(histories: Mapping[str, History]) -> dict[str, str]:
    """Return logged metric → its meaning; on the validation split rather than on training batches."""
    known = {match[1]: key for key in _logged(histories) if (match := _AGREEMENT_KEY.fullmatch(key))}  # `valid` comes last
    return {known[name]: name for name in _AGREEMENT_TITLES if name in known}


def _title(metric: str) -> str:
    name = metric_name(metric) + (", %" if is_percent(metric) else "")
    return name[0].upper() + name[1:]


def _marker(system: DialogueSystem) -> str:
    return _FLOOR_MARKERS.get(system.name, _MARKERS[system.kind])


def _draw_interval(axes: Axes, row: DialogueTableRow, y: int) -> None:
    colour = _colour(row.system)
    value, low, high = (shown(row.metric, v) for v in (row.value, row.low, row.high))
    hollow = row.system.kind in ("warm_start", "floor", "response_floor")
    axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
    look: dict[str, Any] = {"markerfacecolor": PAPER if hollow else colour, "markeredgecolor": colour, "markeredgewidth": 1.8}
    axes.plot([value], [y], marker=_marker(row.system), markersize=7, **look)
    text = format_value(row.metric, row.value)
    axes.annotate(text, (value, y), (0, 7), textcoords="offset points", ha="center", fontsize=8.5, color=INK)


def _draw_recalls(axes: Axes, system: DialogueSystem, points: Sequence[tuple[int, DialogueTableRow]], *, shift: float) -> None:
    x = [place + shift for place, _ in points]
    values, lows, highs = (np.array([100 * getattr(row, part) for _, row in points]) for part in ("value", "low", "high"))
    colour = _colour(system)
    dash = "-" if system.kind == "variant" else (0, (4, 3)) if system.kind == "warm_start" else (0, (1.5, 1.5))
    axes.vlines(x, lows, highs, color=colour, linewidth=1.1, alpha=0.55)
    look: dict[str, Any] = {"markerfacecolor": colour if system.kind == "variant" else PAPER, "markeredgecolor": colour}
    axes.plot(x, values, color=colour, linestyle=dash, linewidth=1.7, marker=_marker(system), label=system.label, **look)


def _draw_lines(axes: Axes, histories: Mapping[str, History], key: str, *, scale: float) -> None:
    for name, rows in histories.items():
        points = [(row["step"], scale * row[key]) for row in rows if key in row]
        x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
        colour, marker = _COLOURS.get(name, PLAIN), "o" if len(points) <= 20 else ""
        if len(points) >= _SMOOTH_FROM:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.25)
            y = _running_mean(y, len(y) // 20)
        axes.plot(x, y, color=colour, linewidth=1.8, marker=marker, markersize=4, label=name)


def _running_mean(values: Floats, half: int) -> Floats:
    """Mean over `half` points on either side, fewer at the ends."""
    window = np.ones(2 * half + 1)
    smooth: Floats = np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
    return smooth


def _colour(system: DialogueSystem) -> str:
    if system.kind in ("warm_start", "floor", "response_floor"):
        return INK if system.kind == "warm_start" else MUTED
    return _COLOURS.get(system.meta_knowledge or system.name, PLAIN)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, _LEGEND_WIDTH // (max(map(len, labels)) + 9))
    rows = -(-len(labels) // columns)  # as many in the last row as in the others, as far as they go
    figure.legend(handles, labels, loc="outside upper left", ncols=-(-len(labels) // rows), handlelength=2.6)


def _nothing(where: str, rule: str) -> DataError:
    return DataError("There is nothing to draw", [Problem(where, rule)])
