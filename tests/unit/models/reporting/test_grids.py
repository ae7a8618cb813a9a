"""What the tables say."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from models.evaluation.fusion.scores import ComparisonRow, TableRow
from models.reporting.grids import Cell, Grid, comparison_by_family_grid, comparison_grid, score_grid, to_markdown, to_rich


def test_the_score_grid_holds_each_system_once_and_marks_the_best(table: tuple[TableRow, ...]) -> None:
    grid = score_grid(table, metric="accuracy")
    assert grid.header == ("system", "kind", "all (n = 40)", "reasoning (n = 20)", "safety (n = 20)")
    assert [row[0].text for row in grid.rows] == ["solver", "scholar (untrained)", "sft", "profuser"]
    best = {row[0].text for row in grid.rows for cell in row[2:] if cell.mark == "best"}
    assert best == {"profuser"}
    cell = next(r for r in table if (r.system.name, r.family, r.metric) == ("profuser", "all", "accuracy"))
    assert grid.rows[3][2].text == f"{100 * cell.value:.1f}"
    assert grid.rows[3][2].detail == f"[{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def test_the_best_of_bits_per_byte_is_the_least(table: tuple[TableRow, ...]) -> None:
    grid = score_grid(table, metric="bits_per_byte")
    assert [row[0].text for row in grid.rows if row[2].mark == "best"] == ["profuser"]


def test_all_equal_marks_nobody(table: tuple[TableRow, ...]) -> None:
    same = [replace(row, value=0.5) for row in table]
    assert not [cell for row in score_grid(same, metric="accuracy").rows for cell in row if cell.mark]


def test_left_out_examples_are_reported(table: tuple[TableRow, ...]) -> None:
    lossy = [replace(row, left_out=2) for row in table]
    assert score_grid(lossy, metric="bits_per_byte").notes == (
        "2 examples could not be scored by every system and count for none.",
    )
    assert score_grid(table, metric="bits_per_byte").notes == ()


def test_a_missing_cell_is_a_dash(table: tuple[TableRow, ...]) -> None:
    some = [row for row in table if not (row.system.name == "sft" and row.family == "safety")]
    assert score_grid(some, metric="accuracy").rows[2][4].text == "–"


def test_differences_carry_note_p_and_verdict(comparisons: tuple[ComparisonRow, ...]) -> None:
    grid = comparison_grid(comparisons, metric="accuracy", family="all")
    assert [row[0].text for row in grid.rows] == [
        "profuser − sft",
        "profuser − solver",
        "sft − scholar (untrained)",
        "profuser − scholar (untrained)",
    ]
    assert grid.rows[1][0].detail == "best source chosen on valid"
    first = next(r for r in comparisons if (r.metric, r.family) == ("accuracy", "all"))
    assert grid.rows[0][1].mark == first.verdict == grid.rows[0][3].text
    assert grid.rows[0][1].text.startswith("+")


def test_by_family_puts_a_pair_in_one_line(comparisons: tuple[ComparisonRow, ...]) -> None:
    grid = comparison_by_family_grid(comparisons, metric="bits_per_byte")
    assert grid.header == ("difference", "all", "reasoning", "safety")
    assert len(grid.rows) == 4
    assert all(cell.text.startswith("−") for cell in grid.rows[0][1:])
    assert all(cell.mark == "better" for cell in grid.rows[0][1:])


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
