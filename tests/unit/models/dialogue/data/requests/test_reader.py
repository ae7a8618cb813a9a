"""What a user has asked for so far, and the rows that satisfy it."""

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.data.requests.lexicon import Meaning, Phrase, Question, RequestLexicon
from models.dialogue.data.requests.reader import Request, RequestReader, Wish
from models.params.requests import RequestParams

ROWS = [
    ("r0", "restaurant", "the north star", "north", "cheap", "italian"),
    ("r1", "restaurant", "la mimosa", "centre", "cheap", "italian"),
    ("r2", "restaurant", "the gandhi", "centre", "expensive", "indian"),
    ("r3", "restaurant", "dojo", "south", "cheap", "chinese"),
    ("h0", "hotel", "city lodge", "north", "cheap", ""),
    ("h1", "hotel", "acorn house", "centre", "expensive", ""),
]
KB = KnowledgeBase(
    Entity(id, domain, {"name": name, "area": area, "pricerange": price} | ({"food": food} if food else {}))
    for id, domain, name, area, price, food in ROWS
)
LEXICON = RequestLexicon(
    ("area", "pricerange", "food"),
    phrases=(
        Phrase("does not cost much", Meaning("restaurant", "pricerange", "cheap")),
        Phrase("does not cost much", Meaning("hotel", "pricerange", "cheap")),
        Phrase("place to stay", Meaning("hotel")),
        Phrase("north of two", None),
    ),
    questions=(Question("part of town", "area"), Question("cuisine", "food")),
)
READER = RequestReader(KB, LEXICON)


def ids(*context: str, domain: str | None = None, reader: RequestReader = READER) -> list[str]:
    return [KB[row].id for row in reader.rows(reader.read(context, domain=domain))]


def wishes(*context: str, domain: str | None = None) -> dict[str, tuple[set[str], set[str]]]:
    return {w.attribute: (set(w.values), set(w.refused)) for w in READER.read(context, domain=domain).wishes}


@pytest.mark.parametrize(("said", "found"), [
    ("a cheap restaurant in the centre", ["r1"]),
    ("an Italian restaurant, not in the centre", ["r0"]),
    ("any restaurant but not in the very centre", ["r0", "r3"]),
    ("a restaurant with anything but Italian food", ["r2", "r3"]),
    ("a restaurant in the south instead of north", ["r3"]),
    ("I don't want Italian. A cheap restaurant", ["r3"]),
    ("a restaurant, no Italian please", ["r2", "r3"]),
    ("no, a restaurant with Chinese food", ["r3"]),
    ("not Italian but Indian", ["r2"]),
    ("a restaurant with Indian or Chinese food", ["r2", "r3"]),
    ("a restaurant that does not cost much in the north", ["r0"]),
    ("a restaurant north of two of them", ["r0", "r1", "r2", "r3"]),
    ("a restaurant like the north star", ["r0", "r1", "r2", "r3"]),
    ("hello there", ["r0", "r1", "r2", "r3", "h0", "h1"]),
])  # fmt: skip
def test_values_refusals_and_other_words(said: str, found: list[str]) -> None:
    assert ids(said) == found


def test_a_later_value_takes_the_place_of_the_earlier_one() -> None:
    assert ids("cheap italian food in the north", "no such place", "then in the centre please") == ["r1"]
    assert wishes("italian food", "ok", "rather chinese") == {"food": ({"chinese"}, set())}
    assert wishes("not italian", "ok", "italian after all") == {"food": ({"italian"}, set())}
    assert wishes("italian food", "ok", "anything but italian") == {"food": (set(), {"italian"})}


def test_what_the_system_says_is_no_wish() -> None:
    assert wishes("cheap italian food", "la mimosa is in the centre . how about indian food ?", "what is its phone number?") == {
        "pricerange": ({"cheap"}, set()), "food": ({"italian"}, set())
    }  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "left"), [
    ("which part of town ?", "I don't care", {"pricerange"}),
    ("which part of town ?", "it does n't matter , any price is fine", set()),
    ("which part of town ?", "any price", {"area"}),
    ("there is cheap food in the north . which cuisine ?", "any", {"area", "pricerange"}),
    ("anything else ?", "any area", {"pricerange"}),
    ("anything else ?", "anything", {"area", "pricerange"}),
])  # fmt: skip
def test_what_does_not_matter_is_free(question: str, answer: str, left: set[str]) -> None:
    assert set(wishes("cheap food in the north", question, answer, domain="restaurant")) == left


def test_wishes_hold_for_the_domain_they_were_made_in() -> None:
    first, system = "a cheap restaurant in the north", "ok"
    assert ids(first) == ["r0"]
    assert ids(first, system, "and a place to stay in the centre") == ["h1"]
    assert ids(first, system, "and a place to stay in the centre", system, "back to the restaurant") == ["r0"]
    assert ids("a cheap hotel in the north and a restaurant with indian food") == ["r2"]
    assert ids("something cheap", system, "chinese food") == ["r3"]
    assert ids("something cheap", system, "in the north", domain="hotel") == ["h0"]
    assert READER.read(["indian"]).domain == "restaurant" and READER.read(["cheap"]).domain == ""
    assert READER.read(["cheap"], domain="train").domain == ""


def test_what_nothing_satisfies_is_given_up_for_what_is_asked_now() -> None:
    assert ids("expensive chinese food") == []
    assert ids("expensive chinese food", "there is none", "then italian") == ["r0", "r1"]
    assert wishes("expensive chinese food", "there is none", "cheap then") == {
        "pricerange": ({"cheap"}, set()), "food": ({"chinese"}, set())
    }  # fmt: skip


def test_rows_of_a_session() -> None:
    request = READER.read(["something cheap"])
    assert READER.rows(request, within=[5, 4, 3, 4]).tolist() == [3, 4]
    assert READER.rows(request, within=[]).tolist() == []
    assert READER.rows(Request(), within=[2]).tolist() == [2] and not Request("hotel")


def test_a_missing_value_satisfies_only_refusals() -> None:
    assert not Wish("food", frozenset({"thai"})).allows(None)
    assert Wish("food", refused=frozenset({"thai"})).allows(None)


@pytest.mark.parametrize(("cues", "said", "found"), [
    ({"refusals": ("nicht", "kein …"), "contrasts": ("sondern",)}, "nicht im zentrum sondern im norden", ["a"]),
    ({"refusals": ("nicht", "kein …")}, "kein norden", ["b"]),
    ({"refusals": ("… 以外",)}, "zentrum 以外", ["a"]),
])  # fmt: skip
def test_other_languages_have_cues_of_their_own(cues: dict[str, tuple[str, ...]], said: str, found: list[str]) -> None:
    kb = KnowledgeBase([Entity("a", "x", {"name": "a", "lage": "norden"}), Entity("b", "x", {"name": "b", "lage": "zentrum"})])
    reader = RequestReader(kb, RequestLexicon(("lage",), cues=RequestParams(**cues)))  # type: ignore[arg-type]
    assert [kb[row].id for row in reader.rows(reader.read([said]))] == found
