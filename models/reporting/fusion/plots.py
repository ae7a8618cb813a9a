"""Plots of scores, losses and alignment coverage. Each returns a figure for `canvas.save_figure` or `canvas.themed_svg`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.errors import DataError, Problem
from models.evaluation.fusion.claims import MAIN_METHOD
from models.evaluation.fusion.scores import System, TableRow
from models.reporting.canvas import (
    ACCENT,
    DASHES,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    PLAIN,
    QUIET,
    new_figure,
    quiet_axes,
    styled,
    text_on,
)
from models.reporting.formatting import format_metric, metric_title, shown, system_names, without_duplicate_target
from models.reporting.fusion.grids import coverage_shares

LOSS_PANELS = {
    "train/sft_gt": "cross-entropy of the ground truth",
    "train/sft_response": "cross-entropy of the winning response",
    "train/kl_gt": "KL to the Min-CE winner (training mode)",
    "train/kl_response": "KL to the voted winner (inference mode)",
}
"""Logged metric → panel title; nats per response token."""

_Look = tuple[str, Any]
_PANELS_PER_ROW = 5
_SMOOTH_FROM = 40  # logged points from which a running mean is drawn over the raw curve


@styled
def plot_comparison(rows: Sequence[TableRow], *, metric: str, main: str = MAIN_METHOD) -> Figure:
    """Draw value and interval of every system, one panel per family; a dotted line marks the untrained target.

    Raises:
        DataError: No row has this metric.
    """
    chosen = _of_metric(without_duplicate_target(rows), metric)
    families = list(dict.fromkeys(row.family for row in chosen))
    names = system_names(row.system for row in chosen)
    lines = math.ceil(len(families) / _PANELS_PER_ROW)
    columns = math.ceil(len(families) / lines)
    figure = new_figure(height=max(280, lines * (110 + 43 * len(names))))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, family in zip(panels.flat, families, strict=False):
        here = [row for row in chosen if row.family == family]
        _draw_family(axes, here, list(names), main=main)
        axes.set_title(family, pad=22)
        axes.annotate(f"n = {here[0].num:,}", (0, 1), (0, 7), "axes fraction", "offset points", color=MUTED, fontsize=9)
    _hide_rest(panels, len(families))
    panels[0, 0].set_ylim(len(names) - 0.5, -0.7)
    panels[0, 0].set_yticks(range(len(names)), list(names.values()))
    figure.supxlabel(metric_title(metric), fontsize=10, color=MUTED)
    return figure


@styled
def plot_losses(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    panels: Mapping[str, str] = MappingProxyType(LOSS_PANELS),
    main: str = MAIN_METHOD,
) -> Figure:
    """Draw training curves, one panel per metric, one line per method; long ones faint under a running mean.

    Args:
        histories: Method → rows logged over training, each with `step` and some of the metrics.
        panels: Metric in the rows → panel title. By default the parts of the loss, which compare across methods (the weighted
            objective does not: its weights differ).
        main: Method in the accent colour.

    Raises:
        DataError: No row has one of the metrics.
    """
    known = {key: title for key, title in panels.items() if any(key in row for rows in histories.values() for row in rows)}
    if not known:
        raise _nothing("the training history", f"must hold one of {list(panels)}")
    columns = len(known) if len(known) < 4 else 2
    figure = new_figure(height=500)
    grid = figure.subplots(math.ceil(len(known) / columns), columns, sharex=True, squeeze=False)
    for axes, (key, title) in zip(grid.flat, known.items(), strict=False):
        for name, look in _line_looks(histories, main).items():
            points = [(row["step"], row[key]) for row in histories[name] if key in row]
            # An empty line still puts the method into the legend.
            _draw_curve(axes, np.array(points, dtype=np.float64).reshape(-1, 2), name, look)
        axes.set_title(title)
        quiet_axes(axes, grid="y")
    _hide_rest(grid, len(known))
    figure.supxlabel("optimiser step", fontsize=10, color=MUTED)
    figure.supylabel("nats per response token", fontsize=10, color=MUTED)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(6, len(labels)), handlelength=3)
    return figure


@styled
def plot_coverage(coverage: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw what became of the target's positions per source: taught, one-hot fallback, lossy, no teacher.

    Raises:
        DataError: There is no source.
    """
    titles = {"aligned": "taught by the source", "fallback": "one-hot on the next token", "lossy": "lossy", "none": "no teacher"}
    colours = dict(zip(titles.values(), (PALETTE[2], PALETTE[1], PALETTE[5], QUIET), strict=True))
    parts = {
        source: {titles[part]: share for part, share in coverage_shares(counts).items()} for source, counts in coverage.items()
    }
    used = {title: colour for title, colour in colours.items() if any(shares[title] for shares in parts.values())}
    return plot_shares(parts, colours=used, x_title="share of the target's positions, %")


@styled
def plot_shares(parts: Mapping[str, Mapping[str, float]], *, colours: Mapping[str, str], x_title: str) -> Figure:
    """Draw stacked horizontal bars of shares: bar → (part → share between 0 and 1), with the percent written inside.

    Raises:
        DataError: There is no bar.
    """
    if not parts:
        raise _nothing("the shares", "must hold at least one bar")
    figure = new_figure(height=max(180, 110 + 44 * len(parts)))
    axes = figure.subplots()
    draw_stack(axes, parts, colours=colours)
    axes.set_xlabel(x_title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(colours))
    return figure


def draw_stack(axes: Axes, parts: Mapping[str, Mapping[str, float]], *, colours: Mapping[str, str]) -> None:
    """Draw stacked horizontal bars of shares on given axes (see `plot_shares`)."""
    left = np.zeros(len(parts))
    for part, colour in colours.items():
        widths = np.array([100 * shares.get(part, 0.0) for shares in parts.values()])
        axes.barh(range(len(parts)), widths, left=left, height=0.72, color=colour, label=part, edgecolor=PAPER, linewidth=0.8)
        for y, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 5:
                axes.text(start + width / 2, y, f"{width:.0f}", ha="center", va="center", color=text_on(colour), fontsize=9)
        left += widths
    axes.set_yticks(range(len(parts)), list(parts))
    axes.set_xlim(0, 100)
    axes.set_ylim(len(parts) - 0.5, -0.5)  # the first bar on top, also where panels share the axis
    quiet_axes(axes, grid=None)


def _hide_rest(panels: npt.NDArray[Any], used: int) -> None:
    """Hide the panels of the last line that are not used; the ones above them then show the ticks of the shared axis."""
    columns = panels.shape[1]
    for at in range(used, panels.size):
        panels.flat[at].set_visible(False)
        if at >= columns:
            panels.flat[at - columns].tick_params(labelbottom=True)


def _of_metric(rows: Sequence[TableRow], metric: str) -> list[TableRow]:
    chosen = [row for row in rows if row.metric == metric]
    if not chosen:
        raise _nothing("the results table", f"must hold rows of the metric `{metric}`")
    return chosen


def _nothing(where: str, rule: str) -> DataError:
    return DataError("There is nothing to draw", [Problem(where, rule)])


def _draw_family(axes: Axes, rows: Sequence[TableRow], systems: Sequence[System], *, main: str) -> None:
    untrained = [shown(row.metric, row.value) for row in rows if row.system.kind == "untrained"]
    if len(untrained) == 1:
        axes.axvline(untrained[0], color=QUIET, linestyle=":", linewidth=1.3)
    for row in rows:
        y = systems.index(row.system)
        colour, face = _look(row.system, main)
        value, low, high = (shown(row.metric, v) for v in (row.value, row.low, row.high))
        axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([value], [y], marker="o", markersize=7, markerfacecolor=face, markeredgecolor=colour, markeredgewidth=1.8)
        weight = "bold" if row.system.name == main and row.system.kind == "method" else "normal"
        axes.annotate(
            format_metric(row.metric, row.value),
            (value, y),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=INK,
            fontweight=weight,
        )
    quiet_axes(axes, grid="x")
    axes.margins(x=0.12)


def _look(system: System, main: str) -> tuple[str, str]:
    """Return line and fill colour: sources hollow grey, the untrained target grey, methods blue, the main one in the accent."""
    if system.kind == "source":
        return QUIET, PAPER
    if system.kind == "untrained":
        return QUIET, QUIET
    return (ACCENT, ACCENT) if system.name == main else (PLAIN, PLAIN)


def _line_looks(names: Iterable[str], main: str) -> dict[str, _Look]:
    """Return colour and dash of each method; the main one solid in the accent."""
    others = [name for name in names if name != main]
    colours = [colour for colour in PALETTE if colour != ACCENT]
    looks = {name: (colours[i % len(colours)], DASHES[i % len(DASHES)]) for i, name in enumerate(others)}
    return {name: looks.get(name, (ACCENT, "-")) for name in names}


def _draw_curve(axes: Axes, points: npt.NDArray[np.float64], name: str, look: _Look) -> None:
    colour, dash = look
    x, y = points.T
    if len(y) < _SMOOTH_FROM:
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.8, label=name)
        return
    axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.25)
    axes.plot(x, _running_mean(y, len(y) // 20), color=colour, linestyle=dash, linewidth=2, label=name)


def _running_mean(values: npt.NDArray[np.float64], half: int) -> npt.NDArray[np.float64]:
    """Mean over `half` points on either side, fewer at the ends (so that the curve keeps its length and its ends)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    smooth: npt.NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return smooth
