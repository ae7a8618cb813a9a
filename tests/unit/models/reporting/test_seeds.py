"""Means and differences over seeds."""

import pytest

from models.reporting.seeds import over_seeds


def test_a_mean_has_the_t_interval_over_its_seeds() -> None:
    row = over_seeds("sft", [50.0, 70.0, 90.0], "%", {"metric": "accuracy"})
    # 70 ± t(0.975, 2) · 20 / √3
    assert (row.low, row.high) == pytest.approx((70 - 49.68, 70 + 49.68), abs=0.01)
    assert (row.value, row.num, row.more) == (70.0, 3, {"metric": "accuracy", "by_seed": "50.0, 70.0, 90.0"})


def test_a_difference_has_a_p() -> None:
    row = over_seeds("a − b", [1.0, 2.0, 3.0], "points", {}, difference=True)
    assert row.more["p"] == pytest.approx(0.0742, abs=1e-4)  # t = 2 / (1 / √3), 2 degrees of freedom
    assert over_seeds("a − b", [0.0, 0.0], "points", {}, difference=True).more["p"] == 1.0
    assert over_seeds("a − b", [0.5, 0.5], "bits/byte", {}, difference=True).more == {"by_seed": "0.500, 0.500", "p": 0.0}


def test_one_seed_has_no_interval() -> None:
    row = over_seeds("a − b", [4.0], "points", {}, difference=True)
    assert (row.value, row.low, row.high, row.num) == (4.0, None, None, 1) and "p" not in row.more
