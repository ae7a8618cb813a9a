"""Correctness of an answer by check."""

import math

import pytest

from models.errors import DataError, NumericsError
from models.evaluation.fusion.correctness import bits_per_byte, is_correct, normalise_answer
from models.schema import Check, Example, Message


def _example(check: Check, answer: str | None) -> Example:
    return Example("e1", "knowledge", (Message("user", "?"),), "the ground truth", answer, check)


def test_a_response_without_a_number_is_wrong() -> None:
    assert is_correct(_example("number", "3"), "no idea") is False


def test_number_compares_values_not_strings() -> None:
    example = _example("number", "#### 1,200")
    assert is_correct(example, "So it is 1200.0") is True
    assert is_correct(example, "1200 apples and 3 pears") is False


@pytest.mark.parametrize(
    ("text", "right"),
    [("Paris", True), ("  paris.\n", True), ('"Paris"', True), ("Paris, France", False), ("", False), ("ＰＡＲＩＳ", True)],
)
def test_exact_ignores_case_spaces_and_surrounding_punctuation(text: str, right: bool) -> None:
    assert is_correct(_example("exact", "Paris."), text) is right


def test_exact_keeps_signs() -> None:
    assert is_correct(_example("exact", "-5"), "5") is False
    assert is_correct(_example("exact", "50%"), "50") is False


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("art", "modern art, mostly", True),
        ("art", "to start with", False),
        ("art", "to start with art", True),
        ("Mill Road 5", "it stands at mill\n road 5.", True),
        ("5", "it is 15", False),
        ("東京", "首都は東京です", True),
        ("C++", "written in C++.", True),
        ("?", "what?", True),
    ],
)
def test_contains_looks_for_whole_words(answer: str, text: str, right: bool) -> None:
    assert is_correct(_example("contains", answer), text) is right


def test_no_check_gives_no_verdict() -> None:
    assert is_correct(_example("none", None), "anything") is None


@pytest.mark.parametrize(("check", "answer"), [("exact", None), ("contains", "  "), ("number", "none of them")])
def test_a_check_without_an_answer_is_an_error_that_names_the_example(check: Check, answer: str | None) -> None:
    with pytest.raises(DataError, match="example `e1`"):
        is_correct(_example(check, answer), "x")


def test_punctuation_only_stays() -> None:
    assert normalise_answer(" ?! ") == "?!"


def test_a_uniform_guess_over_bytes_costs_eight_bits() -> None:
    assert bits_per_byte(12 * math.log(256), 12) == pytest.approx(8.0)


@pytest.mark.parametrize(("nll", "num_bytes"), [(math.nan, 3), (math.inf, 3), (1.0, 0)])
def test_nonsense_is_refused(nll: float, num_bytes: int) -> None:
    with pytest.raises(NumericsError, match="bits_per_byte"):
        bits_per_byte(nll, num_bytes)
