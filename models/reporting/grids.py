"""Tables as plain grids of cells, and grids rendered for the terminal (rich) and for Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.markup import escape
from rich.table import Table

from models.evaluation.fusion.scores import ComparisonRow, System, TableRow, higher_is_better
from models.reporting.formatting import (
    KIND_NAMES,
    MINUS,
    format_interval,
    format_metric,
    format_p,
    metric_title,
    system_names,
    without_duplicate_target,
)

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
    chosen = without_duplicate_target([row for row in rows if row.metric == metric])
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


_STYLES: dict[Mark, str] = {"": "", "best": "bold", "better": "green", "worse": "red", "unclear": "dim"}


def to_rich(grid: Grid) -> Table:
    """Return a rich table: intervals dim, the best value bold, verdicts in colour."""
    table = Table(title=escape(grid.title), title_justify="left", caption=escape("\n".join(grid.notes)) or None)
    for i, name in enumerate(grid.header):
        table.add_column(escape(name), justify="left" if i < grid.num_text else "right")
    for row in grid.rows:
        table.add_row(*(_rich_cell(cell, text=i < grid.num_text) for i, cell in enumerate(row)))
    return table


def to_markdown(grid: Grid) -> str:
    """Return a GitHub table under its title in bold; the best value bold. Ends without a line break."""
    aligns = ("---" if i < grid.num_text else "---:" for i in range(len(grid.header)))
    lines = [_line(_plain(name) for name in grid.header), _line(aligns)]
    lines += [_line(_markdown_cell(cell, text=i < grid.num_text) for i, cell in enumerate(row)) for row in grid.rows]
    return "\n".join([f"**{_plain(grid.title)}**", "", *lines, *(line for note in grid.notes for line in ("", _plain(note)))])


def _rich_cell(cell: Cell, *, text: bool) -> str:
    style = _STYLES[cell.mark]
    main = f"[{style}]{escape(cell.text)}[/{style}]" if style else escape(cell.text)
    return f"{main} [dim]{escape(_detail(cell, text=text))}[/dim]" if cell.detail else main


def _markdown_cell(cell: Cell, *, text: bool) -> str:
    main = f"**{_plain(cell.text)}**" if cell.mark == "best" else _plain(cell.text)
    return f"{main} {_plain(_detail(cell, text=text))}".strip()


def _detail(cell: Cell, *, text: bool) -> str:
    # An interval has its own brackets; a remark after a name needs them.
    return f"({cell.detail})" if text and cell.detail else cell.detail


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    # A pipe or a line break would end the cell; a marker-like comment would end a results block.
    return text.replace("|", "\\|").replace("\n", " ").replace("<!--", "&lt;!--")
