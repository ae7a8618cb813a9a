import pytest

from models.dialogue.data.readers.multiwoz_venues import ChoicePattern, VenueNames, gold_values, names_of, references
from models.dialogue.data.records import Entity

NAMES = (
    "acorn guest house",
    "carolina bed and breakfast",
    "rosa ' s bed and breakfast",
    "the lensfield hotel",
    "arbury lodge guesthouse",
)
HOTELS = [Entity(str(i), "hotel", {"name": name}) for i, name in enumerate(NAMES)]
PLACES = [Entity("p", "attraction", {"name": "the place"}), Entity("c", "attraction", {"name": "clare college"})]
NANDOS = [
    Entity("n0", "restaurant", {"name": "nandos city centre", "area": "centre", "address": "33-34 saint andrews street"}),
    Entity("n1", "restaurant", {"name": "nandos", "area": "south", "pricerange": "cheap", "food": "portuguese"}),
]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("the lensfield , or the acorn ?", ["0", "3"]),
        ("carolina b & b is nice", ["1"]),
        ("rosa s is in the south", ["2"]),
        ("rosas bed and breakfast", ["2"]),
        ("the arbury lodge guest house", ["4"]),
        ("53-57 lensfield road", []),
        ("acorns", []),
        ("the place is free", []),
    ],
)
def test_short_names_count_in_their_domain(text: str, named: list[str]) -> None:
    names = VenueNames([*HOTELS, *PLACES])
    assert [e.id for e in names.named(text, domain="hotel")] == named
    assert names.named(text, domain="restaurant") == ()


def test_the_longest_name_counts_and_full_names_come_first() -> None:
    names = VenueNames(NANDOS)
    assert [e.id for e in names.named("nandos city center is open", domain="restaurant")] == ["n0"]
    assert [e.id for e in names.named("nandos is open", domain="restaurant")] == ["n1"], "not a short form of the other"


def test_common_words_are_no_short_names() -> None:
    assert names_of("the place") == ["the place"]
    assert names_of("ask restaurant") == ["ask restaurant"]
    assert names_of("the gardenia") == ["the gardenia", "gardenia"]
    names = VenueNames(PLACES)
    assert names.named("a great place near gonville place", domain="attraction") == ()


def test_gold_values() -> None:
    said = "nandos serves portuguese food in the center not at 33-34 saint andrews street reference number is : ab12cd34"
    expected = ("nandos", "33-34 saint andrews street", "portuguese", "centre", "ab12cd34")
    assert gold_values(said, NANDOS, domain="restaurant") == expected
    assert gold_values("thank you for calling the cambridge towninfo centre", NANDOS, domain="restaurant") == ()
    assert gold_values(said, NANDOS, domain="hotel") == ("ab12cd34",)


def test_references() -> None:
    assert references("reference number is xlwrecbf . ref# 7ckepro5 .") == ("xlwrecbf", "7ckepro5")
    assert references("call 01223356555 , postcode cb21ab ; your reservation is complete") == ()


def test_choices() -> None:
    pattern = ChoicePattern(["a few", "a few good", "5"])
    assert pattern.first(["hello", "there are only a few good ones", "i have 5"]) == ("a few good",)
    assert pattern.first(["5 people"]) == ()
    assert ChoicePattern([]).first(["there are 5"]) == ()
