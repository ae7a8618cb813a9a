"""Tables as plain grids of cells: what they say, before anybody renders them (terminal, Markdown, HTML)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from models.evaluation.scores import ComparisonRow, System, TableRow, higher_is_better
from models.reporting.formatting import MINUS, format_interval, format_metric, format_p, metric_title
from models.reporting.systems import KIND_NAMES, system_names, without_twins

Mark = Literal["", "best", "better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a lighter second part (an interval), and a mark that a renderer may show as colour or weight."""

    text: str
    detail: str = ""
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        title: Heading.
        header: Column names.
        rows: Cells, one list per row.
        num_text: Leading columns that hold text; the others hold figures and are aligned right.
        notes: Sentences under the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_text: int = 1
    notes: tuple[str, ...] = ()


def score_grid(rows: Sequence[TableRow], *, metric: str) -> Grid:
    """Return systems × families of one metric, value and interval, the best of each family marked."""
    chosen = without_twins([row for row in rows if row.metric == metric])
    names = system_names(row.system for row in chosen)
    families = list(dict.fromkeys(row.family for row in chosen))
    cells = {(row.system, row.family): row for row in chosen}
    best = {family: _best([row for row in chosen if row.family == family]) for family in families}
    lines = []
    for system, name in names.items():
        figures = [_figure(cells.get((system, family)), best[family]) for family in families]
        lines.append((Cell(name), Cell(KIND_NAMES[system.kind]), *figures))
    counts = {row.family: row.num for row in chosen}
    header = ("system", "kind", *(f"{family} (n = {counts[family]:,})" for family in families))
    return Grid(metric_title(metric), header, tuple(lines), num_text=2, notes=_left_out_notes(chosen))


def comparison_by_family_grid(rows: Sequence[ComparisonRow], *, metric: str) -> Grid:
    """Return pairs × families of one metric's differences, each marked by its verdict."""
    chosen = [row for row in rows if row.metric == metric]
    families = list(dict.fromkeys(row.family for row in chosen))
    names = system_names(system for row in chosen for system in (row.a, row.b))
    lines: dict[str, dict[str, Cell]] = {}
    for row in chosen:
        detail = format_interval(metric, row.low, row.high, signed=True)
        lines.setdefault(_pair_name(row, names), {})[row.family] = Cell(
            format_metric(metric, row.value, signed=True), detail, row.verdict
        )
    body = tuple((Cell(pair), *(line.get(family, Cell("–")) for family in families)) for pair, line in lines.items())
    return Grid(f"{metric_title(metric)}, by family", ("difference", *families), body)


def comparison_grid(rows: Sequence[ComparisonRow], *, metric: str, family: str) -> Grid:
    """Return the paired differences of one metric and family, marked by their verdict."""
    chosen = [row for row in rows if (row.metric, row.family) == (metric, family)]
    names = system_names(system for row in chosen for system in (row.a, row.b))
    lines = tuple(
        (
            Cell(_pair_name(row, names), row.note),
            Cell(
                format_metric(metric, row.value, signed=True),
                format_interval(metric, row.low, row.high, signed=True),
                row.verdict,
            ),
            Cell(format_p(row.p)),
            Cell(row.verdict, mark=row.verdict),
        )
        for row in chosen
    )
    header = ("difference", "value [interval]", "p", "verdict")
    return Grid(f"{metric_title(metric)}, {family}", header, lines)


def _pair_name(row: ComparisonRow, names: Mapping[System, str]) -> str:
    # The left side names the target where there are several; a method on the right then needs no more than its name.
    return f"{names[row.a]} {MINUS} {row.b.name if row.b.kind == 'method' else names[row.b]}"


def _figure(row: TableRow | None, best: float | None) -> Cell:
    if row is None:
        return Cell("–")
    mark: Mark = "best" if row.value == best else ""
    return Cell(format_metric(row.metric, row.value), format_interval(row.metric, row.low, row.high), mark)


def _best(rows: Sequence[TableRow]) -> float | None:
    if len({row.value for row in rows}) < 2:
        return None
    return (max if higher_is_better(rows[0].metric) else min)(row.value for row in rows)


def _left_out_notes(rows: Sequence[TableRow]) -> tuple[str, ...]:
    lost = {row.family: row.left_out for row in rows if row.left_out and row.family == "all"}
    return tuple(
        f"{num:,} example{'s' if num > 1 else ''} could not be scored by every system and count for none."
        for num in lost.values()
    )
