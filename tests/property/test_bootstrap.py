"""Properties of the bootstrap that hold for any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bootstrap import mean_interval, paired_difference

from models.evaluation.bootstrap import Resampling, ratio_interval

_VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)
_PAIRS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.5, 100)), min_size=1, max_size=40)
_HOW = Resampling(samples=100, seed=3)


@settings(max_examples=60, deadline=None)
@given(_VALUES)
def test_an_interval_stays_within_the_data(values: list[float]) -> None:
    got = mean_interval(values, resampling=_HOW)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= got.low <= got.high <= max(values) + slack
    assert got.value == pytest.approx(np.mean(values), abs=slack)


@settings(max_examples=60, deadline=None)
@given(_VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_shift_and_scale_move_the_interval_along(values: list[float], scale: float, shift: float) -> None:
    plain = mean_interval(values, resampling=_HOW)
    moved = mean_interval([v * scale + shift for v in values], resampling=_HOW)
    for name in ("value", "low", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name) * scale + shift, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(_PAIRS)
def test_a_difference_equals_the_interval_of_the_gaps(rows: list[tuple[float, float, float]]) -> None:
    a, b, sizes = map(list, zip(*rows, strict=True))
    got = paired_difference(a, b, sizes=sizes, resampling=_HOW)
    gaps = ratio_interval([x - y for x, y in zip(a, b, strict=True)], sizes, resampling=_HOW)
    assert (got.value, got.low, got.high) == (gaps.value, gaps.low, gaps.high)
    assert 1 / _HOW.samples <= got.p <= 1.0
    assert got.value == pytest.approx(sum(a) / sum(sizes) - sum(b) / sum(sizes), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(_PAIRS)
def test_swapping_the_systems_flips_the_sign(rows: list[tuple[float, float, float]]) -> None:
    a, b, _ = map(list, zip(*rows, strict=True))
    one, other = paired_difference(a, b, resampling=_HOW), paired_difference(b, a, resampling=_HOW)
    assert one.p == other.p
    assert one.value == -other.value
    assert one.low == pytest.approx(-other.high, abs=1e-9)
