"""How figures are written."""

from dataclasses import replace

import pytest

from models.evaluation.fusion.scores import System, TableRow
from models.reporting.formatting import (
    decimals_for,
    difference_unit,
    fixed,
    format_interval,
    format_metric,
    format_p,
    metric_title,
    system_names,
    without_duplicate_target,
)


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("accuracy", 0.70666, False, "70.7"),
        ("accuracy", -0.0312, True, "−3.1"),
        ("accuracy", 0.0312, True, "+3.1"),
        ("accuracy", -0.0001, True, "0.0"),
        ("bits_per_byte", 1.23456, False, "1.235"),
        ("bits_per_byte", 12.3456, False, "12.346"),
        ("reward/rm", 0.12345, False, "0.123"),
        ("reward/rm", 3.1415, False, "3.14"),
        ("reward/chrf", 34.349, False, "34.3"),
        ("reward/chrf", -1234.5, False, "−1,234.5"),
    ],
)
def test_a_figure_has_the_decimals_of_its_metric(metric: str, value: float, signed: bool, text: str) -> None:
    assert format_metric(metric, value, signed=signed) == text


def test_intervals_and_p() -> None:
    assert format_interval("accuracy", 0.471, 0.594) == "[47.1, 59.4]"
    assert [format_p(p) for p in (0.0005, 0.025, 0.31, 1.0)] == ["< 0.001", "0.025", "0.31", "1.00"]


@pytest.mark.parametrize(("value", "decimals"), [(0, 0), (1234.0, 0), (53.3, 1), (5.33, 2), (0.0123, 4), (-0.5, 3), (1e-12, 8)])
def test_three_digits_are_shown(value: float, decimals: int) -> None:
    assert decimals_for(value) == decimals


def test_a_rounded_zero_has_no_sign() -> None:
    assert fixed(-0.004, 2, signed=True) == "0.00"
    assert fixed(12345.678, 1) == "12,345.7"


def test_titles_tell_unit_and_direction() -> None:
    assert metric_title("accuracy") == "accuracy, % (higher is better)"
    assert metric_title("bits_per_byte") == "bits per byte of the ground truth (lower is better)"
    assert metric_title("reward/rm") == "reward by rm (higher is better)"
    assert (difference_unit("accuracy"), difference_unit("bits_per_byte"), difference_unit("reward/rm")) == (
        "points",
        "bits/byte",
        "",
    )


_ONE, _OTHER = System("profuser", "method", "scholar"), System("profuser", "method", "solver")
_SOURCE, _UNTRAINED = System("scholar", "source"), System("scholar", "untrained", "scholar")


def test_a_method_names_its_target_only_where_there_are_several() -> None:
    assert system_names([_SOURCE, _UNTRAINED, _ONE]) == {
        _SOURCE: "scholar",
        _UNTRAINED: "scholar (untrained)",
        _ONE: "profuser",
    }
    assert system_names([_ONE, _OTHER]) == {_ONE: "profuser → scholar", _OTHER: "profuser → solver"}


def test_the_source_that_is_the_target_is_shown_once() -> None:
    row = TableRow(_SOURCE, "all", "accuracy", 0.5, 0.4, 0.6, 10)
    twin, solver = replace(row, system=_UNTRAINED), replace(row, system=System("solver", "source"))
    assert without_duplicate_target([row, twin, solver]) == [twin, solver]
    assert without_duplicate_target([row, solver]) == [row, solver]
    # Other figures under the same name are no twin: nothing is hidden.
    assert without_duplicate_target([row, replace(twin, value=0.4)]) == [row, replace(twin, value=0.4)]
