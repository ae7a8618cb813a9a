import pytest

from models.training.value_f1 import ValueF1

F1 = ValueF1(["rice boat", "rice", "north", "7pm", "", "cheap"])


def test_by_hand():
    score = F1.score(["the Rice Boat is cheap .", "hello north"], ["rice boat in the north", "see you"])
    # Turn 1: both 1 (rice boat), predicted 2, true 2; turn 2 has no value in its reference.
    assert score == pytest.approx(2 * 1 / (2 + 2))


def test_longest_value_and_whole_words():
    assert len(F1.values_in("rice boat")) == 1 and F1.values_in("rice boat") != F1.values_in("rice")
    assert F1.values_in("northern licorice") == set() and F1.values_in("at 7 pm") == F1.values_in("7pm")


def test_nothing_to_score():
    assert F1.score(["north"], ["hello"]) is None
    assert F1.score(["hello"], ["north"]) == 0.0
