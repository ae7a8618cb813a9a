"""Grids in the terminal and in Markdown."""

from io import StringIO

from rich.console import Console

from models.reporting.grids import Cell, Grid
from models.reporting.tables import to_markdown, to_rich

_GRID = Grid(
    "scores [x]",
    ("system", "all"),
    ((Cell("a|b"), Cell("1.0", "[0.9, 1.1]", "best")), (Cell("<!-- /results -->", "a remark"), Cell("2.0"))),
    notes=("A note.",),
)


def test_markdown_is_a_table_whose_cells_cannot_break_it() -> None:
    assert to_markdown(_GRID).split("\n") == [
        "**scores [x]**",
        "",
        "| system | all |",
        "| --- | ---: |",
        "| a\\|b | **1.0** [0.9, 1.1] |",
        "| &lt;!-- /results --> (a remark) | 2.0 |",
        "",
        "A note.",
    ]


def test_the_terminal_shows_brackets_literally() -> None:
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(to_rich(_GRID))
    text = out.getvalue()
    assert "scores [x]" in text and "1.0 [0.9, 1.1]" in text and "A note." in text and "(a remark)" in text


def test_the_best_value_is_bold_in_the_terminal() -> None:
    out = StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard").print(to_rich(_GRID))
    assert "\x1b[1m1.0\x1b[0m" in out.getvalue()
