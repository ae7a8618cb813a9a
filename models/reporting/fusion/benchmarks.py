"""Standard benchmarks as grids and result rows."""

from collections.abc import Sequence
from dataclasses import replace

from models.evaluation.benchmarks.comparison import headline_rows
from models.evaluation.benchmarks.records import BenchmarkRow
from models.evaluation.fusion.scores import ACCURACY, ComparisonRow, TableRow
from models.reporting.formatting import KIND_NAMES, format_interval, format_metric, system_names
from models.reporting.grids import Cell, Grid, comparison_by_family_grid, score_grid
from models.reporting.results import ResultRow

TITLE = "Standard benchmarks, %"


def benchmark_grid(rows: Sequence[BenchmarkRow]) -> Grid:
    """Return systems × benchmarks by the metric that each is usually reported with; a note says which."""
    chosen = headline_rows(rows)
    table = [TableRow(r.system, r.benchmark, ACCURACY, r.value, r.low, r.high, r.num) for r in chosen]
    first = {row.benchmark: row for row in reversed(chosen)}
    notes = tuple(_note(first[name]) for name in dict.fromkeys(row.benchmark for row in chosen))
    harness = f"lm-evaluation-harness {', '.join(sorted({row.harness_version for row in chosen}))}."
    return replace(score_grid(table, metric=ACCURACY), title=TITLE, notes=(*notes, harness))


def benchmark_difference_grid(rows: Sequence[ComparisonRow]) -> Grid:
    """Return pairs × benchmarks of the paired differences, in points."""
    as_accuracy = [replace(row, metric=ACCURACY) for row in rows]
    return replace(comparison_by_family_grid(as_accuracy, metric=ACCURACY), title=f"{TITLE}: paired differences, points")


def benchmark_detail_grid(rows: Sequence[BenchmarkRow]) -> Grid:
    """Return every metric of every system, a line each, with its standard error."""
    names = system_names(row.system for row in rows)
    lines = tuple(
        (
            Cell(names[row.system]),
            Cell(KIND_NAMES[row.system.kind]),
            Cell(row.benchmark),
            Cell(row.metric),
            Cell(format_metric(ACCURACY, row.value), format_interval(ACCURACY, row.low, row.high)),
            Cell("–" if row.stderr is None else format_metric(ACCURACY, row.stderr)),
            Cell(f"{row.num:,}"),
        )
        for row in rows
    )
    header = ("system", "kind", "benchmark", "metric", "value [interval]", "standard error", "n")
    return Grid(f"{TITLE}: every metric", header, lines, num_text=4)


def benchmark_result_rows(rows: Sequence[BenchmarkRow], differences: Sequence[ComparisonRow]) -> tuple[ResultRow, ...]:
    """Return the figures, in percent, and the paired differences, in points, as result rows."""
    figures = [
        ResultRow(
            row.system.label,
            100 * row.value,
            "%",
            100 * row.low,
            100 * row.high,
            row.num,
            more={
                "kind": row.system.kind,
                "target": row.system.target,
                "benchmark": row.benchmark,
                "metric": row.metric,
                "stderr": None if row.stderr is None else 100 * row.stderr,
                "num_fewshot": row.num_fewshot,
                "task_version": row.task_version,
                "lm_eval": row.harness_version,
                "limited": row.limited,
            },
        )
        for row in rows
    ]
    gaps = [
        ResultRow(
            f"{row.a.label} − {row.b.label}",
            100 * row.value,
            "points",
            100 * row.low,
            100 * row.high,
            row.num,
            more={"benchmark": row.family, "metric": row.metric, "p": row.p, "verdict": row.verdict},
        )
        for row in differences
    ]
    return (*figures, *gaps)


def _note(row: BenchmarkRow) -> str:
    some = f", the first {row.num:,} documents" if row.limited else ""
    return f"{row.benchmark}: {row.metric}, {row.num_fewshot}-shot, task version {row.task_version}{some}."
