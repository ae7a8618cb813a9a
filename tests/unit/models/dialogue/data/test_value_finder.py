import pytest

from models.dialogue.data.value_finder import ValueFinder, matchable


def finder(*values: str) -> ValueFinder:
    made = ValueFinder()
    for value in values:
        made.add(value)
    return made


def test_values_are_numbered_once_in_their_order() -> None:
    values = ValueFinder()
    assert [values.add(v) for v in ("north", "pizza hut", "north")] == [0, 1, 0]
    assert list(values) == ["north", "pizza hut"]
    assert len(values) == 2
    assert "pizza hut" in values
    assert "pizza" not in values


def test_another_spelling_shares_the_number() -> None:
    values = finder("the gandhi")
    assert values.add("gandhi", 0) == 0
    assert [number for *_, number in values.spans("is gandhi nice")] == [0]


def test_spans_are_whole_words_and_may_overlap() -> None:
    values = finder("pizza", "pizza hut", "hut", "zza")
    assert sorted(values.spans("a pizza hut")) == [(1, 2, 0), (1, 3, 1), (2, 3, 2)]


def test_a_value_longer_than_the_rest_of_the_text_is_not_there() -> None:
    assert list(finder("pizza hut", "pizza").spans("a pizza")) == [(1, 2, 1)]


def test_the_longest_of_overlapping_spans_stays() -> None:
    values = finder("pizza hut", "hut city centre", "centre", "north")
    assert values.longest_spans("north pizza hut city centre") == [(0, 1, 3), (2, 5, 1)]
    assert values.longest_spans("centre of the pizza hut") == [(0, 1, 2), (3, 5, 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("At 7 PM!", "at 7pm"), ("11 am", "11am"), ("481 Amaranta Ave.", "481 amaranta ave"), ("it is 5 pms", "it is 5 pms")],
)
def test_a_time_of_day_is_one_word(text: str, expected: str) -> None:
    assert matchable(text) == expected
