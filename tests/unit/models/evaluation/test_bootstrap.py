"""Bootstrap intervals: known answers, coverage, pairing."""

import numpy as np
import pytest
from support.bootstrap import mean_interval, paired_difference

from models.errors import NumericsError
from models.evaluation import bootstrap
from models.evaluation.bootstrap import Resampling, ratio_interval, resample_sums


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    got = mean_interval(values)
    half = 1.96 * values.std() / 20
    assert got.value == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=0.03)
    assert got.high == pytest.approx(values.mean() + half, abs=0.03)
    assert got.num == 400


def test_nominal_coverage_is_kept() -> None:
    draws = np.random.default_rng(1).exponential(1.0, (200, 80))
    hits = [(i := mean_interval(d, resampling=Resampling(samples=400))).low <= 1.0 <= i.high for d in draws]
    assert 0.88 <= np.mean(hits) <= 0.98


def test_ratio_is_of_sums_and_examples_are_resampled_whole() -> None:
    sizes = np.array([1.0, 99.0] * 50)
    got = ratio_interval(sizes * 2.0, sizes)
    assert (got.value, got.low, got.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio_interval(np.array([1.0, 0.0]), np.array([1.0, 99.0])).value == pytest.approx(0.01)


def test_pairing_removes_the_variance_the_systems_share() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 10, 200)
    better = difficulty + 0.5 + rng.normal(0, 0.5, 200)
    got = paired_difference(better, difficulty)
    alone = mean_interval(better)
    assert got.low > 0.3 and got.high < 0.7
    assert got.high - got.low < (alone.high - alone.low) / 10
    assert got.p == pytest.approx(1 / 2000)


def test_a_difference_of_ratios_uses_the_common_sizes() -> None:
    sizes = np.array([10.0, 90.0])
    got = paired_difference(np.array([20.0, 90.0]), np.array([10.0, 90.0]), sizes=sizes)
    assert got.value == pytest.approx(0.1)
    assert (got.low, got.high) == pytest.approx((0.0, 1.0))


def test_p_of_equal_systems_is_one_and_signs_mirror() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 60))
    assert paired_difference(a, a).p == 1.0
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.p == other.p
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_p_is_uniform_without_an_effect() -> None:
    rng = np.random.default_rng(4)
    how = Resampling(samples=200)
    ps = [paired_difference(rng.normal(size=50), rng.normal(size=50), resampling=how).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(ps) < 0.05) <= 0.12
    assert 0.4 <= np.mean(ps) <= 0.6


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(5).integers(0, 9, (37, 3)).astype(float)
    whole = resample_sums(columns, resampling=Resampling(samples=101))
    monkeypatch.setattr(bootstrap, "_CHUNK_ENTRIES", 37 * 7)
    assert np.array_equal(resample_sums(columns, resampling=Resampling(samples=101)), whole)
    assert whole.shape == (101, 3)


def test_seed_and_level_matter() -> None:
    values = np.random.default_rng(6).normal(size=50)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, resampling=Resampling(seed=1))
    wide, narrow = (mean_interval(values, resampling=Resampling(confidence=c)) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0], [2.0]]])
def test_what_cannot_be_averaged_is_refused(values: list[float]) -> None:
    with pytest.raises(NumericsError, match="bootstrap"):
        mean_interval(values)


def test_mismatched_rows_are_refused() -> None:
    with pytest.raises(NumericsError, match="one denominator per value"):
        ratio_interval([1.0, 2.0], [1.0])
    with pytest.raises(NumericsError, match="row 1"):
        ratio_interval([1.0, 2.0], [1.0, 0.0])
