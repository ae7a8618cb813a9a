"""Which examples enter a metric."""

import math

import numpy as np
import pytest

from models.errors import DataError
from models.evaluation.metric_values import check_same_examples, collect_values, list_families, list_metrics
from models.evaluation.scores import ScoreRow, System

_A, _B = System("a", "source"), System("b", "source")
_BIT = math.log(2)


def _row(name: str, family: str, *, bits: float = 8.0, size: int = 4, lossless: bool = True, **more: object) -> ScoreRow:
    return ScoreRow(name, family, bits * _BIT, size, 3, lossless, **more)  # type: ignore[arg-type]


def test_a_text_lossy_for_one_system_is_left_out_for_all_and_counted() -> None:
    scores = {
        _A: [_row("1", "x"), _row("2", "x", size=2), _row("3", "y")],
        _B: [_row("1", "x"), _row("2", "x", lossless=False), _row("3", "y", bits=2.0)],
    }
    values = collect_values(scores, "bits_per_byte")
    assert values.families.tolist() == ["x", "y"]
    assert values.sizes.tolist() == [4.0, 4.0]
    assert values.values[_B].tolist() == pytest.approx([8.0, 2.0])
    assert (values.num_left_out("x"), values.num_left_out("y"), values.num_left_out("all")) == (1, 0, 1)


def test_rows_without_a_check_are_not_left_out_but_not_asked() -> None:
    scores = {s: [_row("1", "x", correct=True), _row("2", "x")] for s in (_A, _B)}
    values = collect_values(scores, "accuracy")
    assert values.values[_A].tolist() == [1.0]
    assert values.num_left_out("all") == 0


def test_a_system_that_was_not_asked_does_not_take_part() -> None:
    scores = {_A: [_row("1", "x", correct=True)], _B: [_row("1", "x")]}
    values = collect_values(scores, "accuracy")
    assert list(values.values) == [_A]
    assert values.num_left_out("all") == 0


def test_a_reward_missing_in_one_system_leaves_the_row_out_everywhere() -> None:
    scores = {
        _A: [_row("1", "x", rewards={"rm": 1.0}), _row("2", "x", rewards={"rm": 2.0})],
        _B: [_row("1", "x", rewards={"rm": 3.0}), _row("2", "x")],
    }
    values = collect_values(scores, "reward/rm")
    assert values.values[_A].tolist() == [1.0]
    assert values.num_left_out("x") == 1
    assert np.array_equal(values.sizes, [1.0])


def test_metrics_and_families_are_listed_in_a_fixed_order() -> None:
    scores = {_A: [_row("1", "y", correct=False, rewards={"rm": 1.0, "chrf": 2.0}), _row("2", "x")]}
    assert list_metrics(scores) == ["accuracy", "bits_per_byte", "reward/chrf", "reward/rm"]
    assert list_families(scores) == ["all", "x", "y"]
    assert list_metrics({_A: [_row("1", "x")]}) == ["bits_per_byte"]


@pytest.mark.parametrize("other", [["1"], ["1", "3"], ["2", "1"], ["1", "2", "3"]])
def test_other_examples_are_refused(other: list[str]) -> None:
    scores = {_A: [_row("1", "x"), _row("2", "x")], _B: [_row(i, "x") for i in other]}
    with pytest.raises(DataError, match="system `b`"):
        check_same_examples(scores)


def test_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one system"):
        check_same_examples({})
