"""Headline and strips."""

from dataclasses import replace

import pytest

from models.evaluation.scores import ComparisonRow, System, TableRow
from models.reporting.report_parts import headlines, metric_sections, strips


def test_the_headline_is_the_main_method_over_all(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> None:
    (head,) = headlines(table, comparisons)
    row = next(r for r in table if (r.system.name, r.family, r.metric) == ("profuser", "all", "accuracy"))
    assert (head.system, head.target, head.metric, head.num) == ("profuser", "scholar", "accuracy", 40)
    assert head.value == f"{100 * row.value:.1f} %"
    assert [r.b.name for r in head.differences] == ["sft", "solver", "scholar"]


def test_another_method_stands_in_and_each_target_has_its_own(table: tuple[TableRow, ...]) -> None:
    without = [row for row in table if row.system.name != "profuser"]
    assert [h.system for h in headlines(without, [])] == ["sft"]
    more = [replace(r, system=System("simul", "method", "solver")) for r in table if r.system.name == "sft"]
    assert [(h.system, h.target) for h in headlines([*table, *more], [])] == [("profuser", "scholar"), ("simul", "solver")]


def test_sources_alone_have_no_headline(table: tuple[TableRow, ...]) -> None:
    assert headlines([row for row in table if row.system.kind == "source"], []) == []


def test_strips_share_a_scale_that_contains_zero(comparisons: tuple[ComparisonRow, ...]) -> None:
    rows = [replace(comparisons[0], low=0.1, value=0.2, high=0.3), replace(comparisons[0], low=-0.1, value=0.0, high=0.1)]
    first, second = strips(rows)
    assert first.zero == second.zero == second.value
    assert 0 < second.low < second.zero < second.high == first.low < first.value < first.high < 100
    assert first.value - first.low == pytest.approx(first.high - first.value, abs=0.02)


def test_strips_without_width_do_not_divide_by_zero(comparisons: tuple[ComparisonRow, ...]) -> None:
    (strip,) = strips([replace(comparisons[0], low=0.0, value=0.0, high=0.0)])
    assert 0 <= strip.low == strip.value == strip.zero <= 100


def test_rewards_are_folded(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> None:
    assert [(s.title.split()[0], s.folded) for s in metric_sections(table, comparisons)] == [
        ("Accuracy,", False),
        ("Bits", False),
        ("Reward", True),
    ]
