"""Plots of who wins: shares per mode and family, and how far the two modes agree (68 % against 45 % in ProFuser)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from models.errors import DataError, Problem
from models.fusion.win_table import NOBODY
from models.reporting.canvas import ACCENT, MUTED, PALETTE, PAPER, PLAIN, new_figure, quiet_axes, styled, text_on
from models.reporting.fusion.plots import draw_stack

MODE_TITLES = {
    "training": "training mode: lowest cross-entropy",
    "inference": "inference mode: most votes",
}
_HEAT = LinearSegmentedColormap.from_list("heat", ["#eef3f8", "#8fb7d9", "#1f5f99"])


def source_colours(sources: Sequence[str]) -> dict[str, str]:
    """Return one colour per source, by its place in the order of the sources."""
    return {source: PALETTE[i % len(PALETTE)] for i, source in enumerate(sources)}


@styled
def plot_win_table(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the shares of wins of `models.fusion.win_table.win_table`: a panel per mode, a bar per family.

    Raises:
        DataError: There are no rows.
    """
    if not rows:
        raise DataError("There is nothing to draw", [Problem("the win table", "must hold at least one row")])
    families = list(dict.fromkeys(row["family"] for row in rows))
    sources = list(dict.fromkeys(row["source"] for row in rows))
    colours = source_colours(sources) | ({NOBODY: MUTED} if NOBODY in sources else {})
    figure = new_figure(height=max(260, 150 + 46 * len(families)))
    for axes, (mode, title) in zip(figure.subplots(1, 2, sharey=True), MODE_TITLES.items(), strict=True):
        here = [row for row in rows if row["mode"] == mode]
        bars = {
            _counted(family, rows): {row["source"]: row["share"] for row in here if row["family"] == family}
            for family in families
        }
        draw_stack(axes, bars, colours=colours)
        axes.set_title(title)
    figure.supxlabel("share of the training examples won, %", fontsize=10, color=MUTED)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(6, len(labels)))
    return figure


@styled
def plot_agreement(agreement: Mapping[str, Any]) -> Figure:
    """Draw `models.fusion.win_table.mode_agreement`: winners of the two modes against each other, and every pair's win rates.

    Raises:
        DataError: It counts no example.
    """
    counts = np.array(agreement["confusion"]["counts"], dtype=np.float64)
    if not counts.sum():
        raise DataError("There is nothing to draw", [Problem("the agreement of the modes", "must count at least one example")])
    pairs = _unordered(agreement["pairwise"])
    figure = new_figure(height=max(440, 170 + 34 * len(pairs)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_confusion(left, counts, agreement["confusion"]["sources"])
    _draw_pairs(right, pairs)
    return figure


def _counted(family: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a family with its examples: of both modes, where prompts without a ground truth make them differ."""
    nums = dict.fromkeys(f"{row['num_examples']:,}" for row in rows if row["family"] == family)
    return f"{family} (n = {', '.join(nums)})"


def _draw_confusion(axes: Axes, counts: npt.NDArray[np.float64], sources: Sequence[str]) -> None:
    """Percent of all examples won by the row's source in training mode and the column's in inference mode."""
    percent = 100 * counts / counts.sum()
    top = max(float(percent.max()), 1e-9)
    for i, row in enumerate(percent):
        for j, value in enumerate(row):
            colour = to_hex(_HEAT(value / top))
            axes.add_patch(_cell(j, i, colour))
            axes.text(j, i, f"{value:.0f} %", ha="center", va="center", color=text_on(colour), fontsize=10)
    axes.set_xlim(-0.5, len(sources) - 0.5)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    axes.set_xticks(range(len(sources)), list(sources), rotation=25 if len(sources) > 4 else 0)
    axes.set_yticks(range(len(sources)), list(sources))
    axes.set_xlabel("winner in inference mode")
    axes.set_ylabel("winner in training mode")
    axes.set_title(f"same winner in {np.trace(percent):.0f} % of the examples")
    axes.set_aspect("equal")
    quiet_axes(axes, grid=None)


def _cell(x: int, y: int, colour: str) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=1.5)


def _draw_pairs(axes: Axes, pairs: Sequence[Mapping[str, Any]]) -> None:
    """One line per pair: in how many percent the first beats the second, in either mode."""
    for y, row in enumerate(pairs):
        shares = [100 * row[f"{mode}_share"] for mode in MODE_TITLES]
        axes.plot(shares, [y, y], color=MUTED, linewidth=1.5, alpha=0.6, zorder=1)
        for share, colour, marker, above in zip(shares, (PLAIN, ACCENT), "os", (True, False), strict=True):
            axes.plot([share], [y], marker=marker, markersize=9, color=colour, zorder=2)
            offset = (0, 9 if above else -17)
            axes.annotate(f"{share:.0f}", (share, y), offset, textcoords="offset points", ha="center", color=colour, fontsize=9)
    axes.axvline(50, color=MUTED, linestyle=":", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(pairs)), [f"{row['a']} beats {row['b']}" for row in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("% of the examples")
    axes.set_title("one source against another")
    quiet_axes(axes, grid="x")
    for mode, colour, marker in zip(MODE_TITLES, (PLAIN, ACCENT), "os", strict=True):
        axes.plot([], [], color=colour, marker=marker, linestyle="", markersize=8, label=f"{mode} mode")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)


def _unordered(pairs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep each pair once, in the order of the sources, where both modes compared it."""
    kept: dict[frozenset[str], Mapping[str, Any]] = {}
    for row in pairs:
        if row["training_share"] is not None and row["inference_share"] is not None:
            kept.setdefault(frozenset((row["a"], row["b"])), row)
    return list(kept.values())
