"""Grids rendered for the terminal (rich) and for Markdown."""

from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from models.reporting.grids import Cell, Grid, Mark

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
    # An interval brings its own brackets; a remark behind a name needs some.
    return f"({cell.detail})" if text and cell.detail else cell.detail


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    # A pipe or a line break would end the cell; a marker-like comment would end a results block.
    return text.replace("|", "\\|").replace("\n", " ").replace("<!--", "&lt;!--")
