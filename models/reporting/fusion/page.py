"""The fusion half's result page: one HTML file, no scripts or external references; light, dark and print."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from models.evaluation.fusion.claims import MAIN_METHOD
from models.evaluation.fusion.comparison import TELLING, headline_metric
from models.evaluation.fusion.scores import ACCURACY, ALL_FAMILIES, BITS_PER_BYTE, REWARD_PREFIX, ComparisonRow, System, TableRow
from models.reporting.canvas import themed_svg
from models.reporting.documents import render_page, write_page
from models.reporting.formatting import difference_unit, format_interval, format_metric, metric_name, metric_title
from models.reporting.fusion.benchmarks import benchmark_detail_grid, benchmark_difference_grid, benchmark_grid
from models.reporting.fusion.data import ReportData
from models.reporting.fusion.grids import (
    agreement_grid,
    agreement_sentence,
    coverage_grid,
    exposure_grid,
    pair_grid,
    scorer_grid,
    token_weight_grid,
    win_grid,
    winner_sentence,
)
from models.reporting.fusion.plots import plot_comparison, plot_coverage, plot_losses
from models.reporting.fusion.win_plots import plot_agreement, plot_win_table
from models.reporting.grids import Grid, comparison_by_family_grid, comparison_grid, score_grid


@dataclass(frozen=True, slots=True)
class Headline:
    """One target's main result and its baseline."""

    system: str
    target: str
    metric: str
    value: str
    interval: str
    num: int
    differences: tuple[ComparisonRow, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """Coordinates of an interval, its value and zero on a drawing from 0 to 100."""

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True, slots=True)
class MetricSection:
    """Everything about one metric; `folded` where it opens on a click."""

    anchor: str
    title: str
    folded: bool
    grid: Grid
    plot: Markup
    differences: Grid
    strips: tuple[Strip, ...]
    by_family: Grid


def headlines(table: Sequence[TableRow], comparisons: Sequence[ComparisonRow]) -> list[Headline]:
    """Return the main method's figure over all families per target; the last method is used if the main one is not run.

    The figure is that of `headline_metric`, but bits per byte where hardly anybody is ever right.
    """
    metric = headline_metric(row.metric for row in table)
    best = max((row.value for row in table if (row.metric, row.family) == (ACCURACY, ALL_FAMILIES)), default=0.0)
    if metric == ACCURACY and best < TELLING and any(row.metric == BITS_PER_BYTE for row in table):
        metric = BITS_PER_BYTE
    chosen = {
        row.system: row for row in table if (row.metric, row.family) == (metric, ALL_FAMILIES) and row.system.kind == "method"
    }
    found = []
    for target in dict.fromkeys(system.target or "" for system in chosen):
        system = _main(list(chosen), target)
        row = chosen[system]
        versus = tuple(c for c in comparisons if (c.a, c.metric, c.family) == (system, metric, ALL_FAMILIES))
        value = format_metric(metric, row.value) + (" %" if metric == ACCURACY else "")
        interval = format_interval(metric, row.low, row.high)
        found.append(Headline(system.name, target, metric, value, interval, num=row.num, differences=versus))
    return found


def metric_sections(table: Sequence[TableRow], comparisons: Sequence[ComparisonRow]) -> list[MetricSection]:
    """Return a section per metric, in the order of the table."""
    return [
        _section(i, metric, table, [c for c in comparisons if c.metric == metric])
        for i, metric in enumerate(dict.fromkeys(row.metric for row in table))
    ]


def strips(rows: Sequence[ComparisonRow]) -> tuple[Strip, ...]:
    """Place intervals on one common scale that contains zero."""
    ends = [0.0, *(end for row in rows for end in (row.low, row.value, row.high))]
    low, high = min(ends), max(ends)
    # A margin keeps dots at the ends from being cut; a scale of no width is drawn in its middle.
    width = (high - low) or 1.0
    start = low - 0.06 * width

    def place(value: float) -> float:
        return round(100 * (value - start) / (1.12 * width), 2)

    return tuple(Strip(place(row.low), place(row.value), place(row.high), place(0.0)) for row in rows)


def _main(systems: Sequence[System], target: str) -> System:
    here = [system for system in systems if (system.target or "") == target]
    return next((system for system in here if system.name == MAIN_METHOD), here[-1])


def _section(index: int, metric: str, table: Sequence[TableRow], comparisons: Sequence[ComparisonRow]) -> MetricSection:
    overall = [row for row in comparisons if row.family == ALL_FAMILIES]
    title = metric_title(metric)
    plot = themed_svg(plot_comparison(table, metric=metric), name=f"metric{index}", description=f"{title}: all systems by family")
    return MetricSection(
        anchor=f"metric-{index}",
        title=title[0].upper() + title[1:],
        folded=metric.startswith(REWARD_PREFIX) and index > 0,
        grid=score_grid(table, metric=metric),
        plot=plot,
        differences=comparison_grid(overall, metric=metric, family=ALL_FAMILIES),
        strips=strips(overall),
        by_family=comparison_by_family_grid(comparisons, metric=metric),
    )


_TEMPLATE = "report.html.j2"


def render_report(data: ReportData) -> str:
    """Return the whole page as HTML.

    Raises:
        DataError: The results table is empty.
    """
    functions = {f.__name__: f for f in (metric_name, difference_unit, format_metric, format_interval)}
    return render_page(_TEMPLATE, data, functions=functions, parts=lambda: _parts(data))


def write_report(data: ReportData, path: Path) -> Path:
    """Render the page into `path`; returns it."""
    return write_page(path, render_report(data))


def _parts(data: ReportData) -> dict[str, object]:
    """Return what the template shows besides the data."""
    return {
        "headlines": headlines(data.table, data.comparisons),
        "metrics": metric_sections(data.table, data.comparisons),
        "exposures": exposure_grid(data.trainings) if data.trainings else None,
        "token_weights": token_weight_grid(data.trainings),
        "benchmarks": _benchmark_part(data),
        **_teach_parts(data),
    }


def _benchmark_part(data: ReportData) -> dict[str, Grid | None] | None:
    """Return the grids of the standard benchmarks, None where none was run."""
    if not data.benchmarks:
        return None
    differences = benchmark_difference_grid(data.benchmark_differences) if data.benchmark_differences else None
    return {"grid": benchmark_grid(data.benchmarks), "differences": differences, "detail": benchmark_detail_grid(data.benchmarks)}


def _teach_parts(data: ReportData) -> dict[str, Any]:
    """Return plots and grids of the parts that may be absent, None where they are."""
    parts: dict[str, Any] = dict.fromkeys(("wins", "agreement", "losses", "coverage"))
    notes = {"winners": winner_sentence(data.winners) if data.winners else "", "warnings": data.scorers.get("warnings", ())}
    scorers = scorer_grid(data.scorers) if data.scorers.get("scorers") else None
    if data.wins:
        plot = themed_svg(plot_win_table(data.wins), name="wins", description="shares of wins per mode, family and source")
        parts["wins"] = {"plot": plot, "grid": win_grid(data.wins)}
    if data.agreement and data.agreement["overall"]["num_examples"]:
        plot = themed_svg(plot_agreement(data.agreement), name="agreement", description="winners of the two modes, and win rates")
        grids = [agreement_grid(data.agreement), pair_grid(data.agreement)]
        parts["agreement"] = {"plot": plot, "grids": grids, "sentence": agreement_sentence(data.agreement)}
    if data.histories:
        parts["losses"] = {"plot": themed_svg(plot_losses(data.histories), name="losses", description="training curves")}
    if data.coverage:
        plot = themed_svg(plot_coverage(data.coverage), name="coverage", description="share of target positions with a teacher")
        parts["coverage"] = {"plot": plot, "grid": coverage_grid(data.coverage)}
    return parts | notes | {"scorers": scorers}
