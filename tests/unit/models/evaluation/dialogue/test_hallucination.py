"""Which values of a response nothing given to the system says."""

from models.dialogue.data.records import Entity, Turn
from models.evaluation.dialogue.hallucination import GroundingCheck, WordValues

_CHECK = GroundingCheck(WordValues(["golden wok", "pizza hut", "cheap", "chinese", "cb4 3hl", "20f", "xy12"]))
_WOK = Entity("r1", "restaurant", {"name": "golden wok", "postcode": "cb43hl", "weather": "low of 20f, high of 30f"})
_HUT = Entity("r2", "restaurant", {"name": "pizza hut", "food": "italian"})


def _turn(**changes: object) -> Turn:
    return Turn("d#0", "d", 0, "restaurant", context=("something cheap",), response="", **changes)  # type: ignore[arg-type]


def test_entities_context_and_dynamic_values_support_a_response() -> None:
    said = "golden wok, CB4 3HL, is cheap, 20f; reference xy12"
    assert _CHECK.check(_turn(dynamic={"ref": ("xy12",)}), said, retrieved=[_WOK]).hallucinated == ()
    fresh = GroundingCheck(WordValues(["xy12"]))
    assert fresh.check(_turn(), said, retrieved=[_WOK]).hallucinated == ("xy12",)


def test_what_was_not_retrieved_is_hallucinated() -> None:
    support = _CHECK.check(_turn(), "pizza hut is cheap and chinese", retrieved=[_WOK])
    assert support.values == ("cheap", "chinese", "pizzahut")
    assert support.hallucinated == ("chinese", "pizzahut")
    assert _CHECK.check(_turn(), "pizza hut is cheap", retrieved=[_WOK, _HUT]).hallucinated == ()


def test_neither_unlisted_words_nor_borders_of_texts_count() -> None:
    check = GroundingCheck(WordValues(["a b"]))
    turn = Turn("e#0", "e", 0, "x", context=("a", "b"), response="")
    assert check.check(turn, "a b", retrieved=()).hallucinated == ("ab",)
    assert check.check(turn, "c d", retrieved=()).values == ()


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
