"""Standard benchmarks in tables, result rows and on the page."""

from dataclasses import replace

import pytest

from models.evaluation.benchmarks.records import BenchmarkRow
from models.evaluation.fusion.scores import ComparisonRow, System
from models.reporting.fusion.benchmarks import (
    benchmark_detail_grid,
    benchmark_difference_grid,
    benchmark_grid,
    benchmark_result_rows,
)
from models.reporting.fusion.data import ReportData
from models.reporting.fusion.page import render_report
from models.reporting.grids import to_markdown

OWL, SFT = System("owl", "untrained", "owl"), System("sft", "method", "owl")


def row(system: System, metric: str, value: float, *, headline: bool) -> BenchmarkRow:
    facts = {"num": 100, "num_fewshot": 5, "task_version": "1.0", "harness_version": "0.4.13", "limited": True}
    return BenchmarkRow(system, "arc_easy", metric, value, 0.05, value - 0.1, value + 0.1, headline=headline, **facts)  # type: ignore[arg-type]


ROWS = [
    *(row(OWL, "acc", 0.4, headline=True), row(SFT, "acc", 0.55, headline=True)),
    *(row(OWL, "acc_norm", 0.3, headline=False), row(SFT, "acc_norm", 0.35, headline=False)),
]
GAPS = [ComparisonRow(SFT, OWL, "arc_easy", "acc", 0.15, 0.05, 0.25, 0.01, 100)]


def test_the_table_shows_the_headline_metric_and_says_how_it_was_measured() -> None:
    text = to_markdown(benchmark_grid(ROWS))
    assert "| sft | fused | **55.0** [45.0, 65.0] |" in text and "35.0" not in text
    assert "arc_easy: acc, 5-shot, task version 1.0, the first 100 documents." in text
    assert "lm-evaluation-harness 0.4.13." in text


def test_differences_are_in_points() -> None:
    assert "| sft − owl (untrained) | +15.0 [+5.0, +25.0] |" in to_markdown(benchmark_difference_grid(GAPS))


def test_every_metric_has_its_standard_error() -> None:
    text = to_markdown(benchmark_detail_grid(ROWS))
    assert "| sft | fused | arc_easy | acc_norm | 35.0 [25.0, 45.0] | 5.0 | 100 |" in text
    assert "| – |" in to_markdown(benchmark_detail_grid([replace(ROWS[0], stderr=None)]))


def test_result_rows_hold_what_is_needed_to_repeat_them() -> None:
    *figures, gap = benchmark_result_rows(ROWS, GAPS)
    assert (figures[1].name, figures[1].value, figures[1].unit, figures[1].num) == ("sft → owl", pytest.approx(55), "%", 100)
    assert {"num_fewshot": 5, "task_version": "1.0", "lm_eval": "0.4.13", "limited": True}.items() <= figures[1].more.items()
    assert (gap.unit, gap.value, gap.more["benchmark"]) == ("points", pytest.approx(15), "arc_easy")


def test_the_page_has_a_section_only_where_benchmarks_were_run(report: ReportData) -> None:
    assert 'id="benchmarks"' not in render_report(report)
    page = render_report(replace(report, benchmarks=ROWS, benchmark_differences=GAPS))
    assert 'id="benchmarks"' in page and "lm-evaluation-harness 0.4.13." in page and "acc_norm" in page
