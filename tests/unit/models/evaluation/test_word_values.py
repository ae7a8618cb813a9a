"""Values as whole words, however they are spaced."""

from models.evaluation.word_values import WordValues

_VALUES = WordValues(["cb12ab", "city stop", "stop", "north", "7pm", "-", "4 star"])


def test_spacing_does_not_matter_and_words_do() -> None:
    assert _VALUES.maximal("It is CB1 2AB, at 7 pm; a 4-star one.") == {"cb12ab", "7pm", "4star"}
    assert _VALUES.maximal("northern stops, xcb12ab") == frozenset()
    assert len(_VALUES) == 6


def test_a_word_belongs_to_its_longest_value() -> None:
    assert _VALUES.maximal("city stop") == {"citystop"}
    assert _VALUES.maximal("city stop , or stop") == {"citystop", "stop"}
    assert _VALUES.occurring("city stop") == {"citystop", "stop"}


def test_further_values_hold_for_one_text() -> None:
    assert _VALUES.maximal("city stop north road", extra=["north road", "!"]) == {"citystop", "northroad"}
    assert _VALUES.maximal("city stop north road") == {"citystop", "north"}
