from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from models.corpus.text import contains_words, normalise
from models.dialogue.data.readers import camrest, multiwoz
from models.dialogue.data.readers.base import DialogueSource
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.unseen.data_set import distractors, renew
from models.dialogue.data.unseen.replace import TextReplacer, kind_of
from models.dialogue.data.unseen.words import Inventor
from models.errors import ParamsError
from models.params.dialogues import DialoguesParams, RenewParams

HOTELS = [
    Entity(
        f"h{i}",
        "hotel",
        {
            "name": f"the {name} hotel",
            "address": f"{i + 3} mill road",
            "area": area,
            "phone": f"0555 01{i}0",
            "postcode": f"cb{i}1ab",
        },
    )
    for i, (name, area) in enumerate((("oak", "north"), ("elm", "north"), ("ash", "south")))
]
PUB = Entity("new-pub", "pub", {"name": "pub", "food": "pies"})


def made(count: int, *, seed: int = 0) -> list[Entity]:
    return list(distractors([*HOTELS, PUB], count, inventor=Inventor(taken={"oak", "elm", "ash", "mill"}, seed=seed)))


def test_new_entities_look_like_old_ones() -> None:
    entities = made(400)
    assert len({entity.id for entity in entities}) == 400
    assert entities[0].id == "new-new-0", "`new-` is taken by the pub"
    hotels = [entity for entity in entities if entity.domain == "hotel"]
    assert 0.65 < len(hotels) / 400 < 0.85, "domains as frequent as before"
    for hotel in hotels:
        assert list(hotel.attributes) == list(HOTELS[0].attributes)
        the, name, kind = hotel.name.split()
        assert (the, kind) == ("the", "hotel") and name not in {"oak", "elm", "ash"}
        number, street, road = hotel.attributes["address"].split()
        assert number.isdigit() and (street, road) != ("mill", "road") and road == "road"
        assert hotel.attributes["phone"][0] == "0" and hotel.attributes["phone"][4] == " "
        assert hotel.attributes["postcode"].startswith("cb")
    areas = Counter(hotel.attributes["area"] for hotel in hotels)
    assert set(areas) == {"north", "south"} and 1.4 < areas["north"] / areas["south"] < 2.9
    assert {entity.attributes["food"] for entity in entities if entity.domain == "pub"} == {"pies"}


def test_identities_are_their_own() -> None:
    entities = [*HOTELS, *(e for e in made(400) if e.domain == "hotel")]
    for key in ("name", "address", "phone", "postcode"):
        values = [entity.attributes[key] for entity in entities]
        assert len(set(values)) == len(values)


def test_the_seed_decides() -> None:
    assert made(5) == made(5) == made(9)[:5]
    assert made(5) != made(5, seed=1)


def test_a_name_of_kinds_only_is_renewed_too() -> None:
    pubs = [entity for entity in made(100) if entity.domain == "pub"]
    assert pubs and all(entity.name != "pub" for entity in pubs)


def test_apart_shares_no_property_but_the_kind_of_thing() -> None:
    inventor = Inventor(taken={"oak", "elm", "ash", "mill", "north", "south", "pies"}, seed=0)
    entities = list(distractors([*HOTELS, PUB], 400, inventor=inventor, kind="apart"))
    hotels = [entity for entity in entities if entity.domain == "hotel"]
    areas = {entity.attributes["area"] for entity in hotels}
    assert len(areas) == 2 and not areas & {"north", "south"}, "as many areas as before, others"
    assert all(entity.name.endswith("hotel") for entity in hotels)
    alike = [entity for entity in made(400) if entity.domain == "hotel"]
    assert [e.id for e in hotels] == [e.id for e in alike], "the same entities but for their properties"
    foods = {entity.attributes["food"] for entity in entities if entity.domain == "pub"}
    assert len(foods) == 1 and foods != {"pies"}


def test_a_property_of_several_words_keeps_numbers_and_kinds() -> None:
    guest = Entity("g", "hotel", {"name": "oak", "type": "guest house", "stars": "4", "price": "10 pounds a night"})
    (new,) = distractors([guest], 1, inventor=Inventor(taken=set(), seed=0), kind="apart")
    assert new.attributes["type"] == "guest house" and new.attributes["stars"] == "4"
    ten, pounds, a, night = new.attributes["price"].split()
    assert (ten, a) == ("10", "a") and pounds != "pounds" and night != "night"


LENSFIELD = {
    "name": "the lensfield hotel",
    "address": "53-57 lensfield road",
    "area": "south",
    "phone": "01223 355017",
    "postcode": "cb21en",
    "stars": "3 star",
}
ROSA = {"name": "rosa ' s bed and breakfast", "address": "53 roseford road", "phone": "01223512596", "postcode": "cb22ha"}
PLACE = {"name": "the place", "address": "22 sidney street", "phone": "none yet"}
ENTITIES = [Entity("a", "hotel", LENSFIELD), Entity("b", "hotel", ROSA), Entity("c", "attraction", PLACE)]
VALUES = RenewParams(values=True)
REAL = Path("data/external/tod")


def turn(response: str, *context: str, gold: Sequence[str] = (), number: int = 0) -> Turn:
    return Turn(f"d#{number}", "d", number, "hotel", context or ("hi",), response, gold_values=tuple(gold), gold_entities=("a",))


def source(
    *turns: Turn, entities: Sequence[Entity] = ENTITIES, values: Sequence[str] = ("lensfield", "the lensfield hotel")
) -> DialogueSource:
    return DialogueSource(entities, values, lambda split: iter(turns if split == "test" else ()))


def renewal(*, taken: frozenset[str] = frozenset()) -> TextReplacer:
    return TextReplacer(ENTITIES, Inventor(taken=taken, seed=0))


def test_kinds_of_attributes() -> None:
    kinds = [kind_of(key, "1a") for key in ("name", "poi", "address", "phone", "post_code", "zip code", "area", "event")]
    assert kinds == ["name", "name", "address", "code", "code", "code", "property", "property"]
    assert kind_of("phone", "none yet") == "property", "a code has a digit"


def test_all_forms_of_a_name_are_renewed_alike() -> None:
    text = renewal().text
    whole = text("the lensfield hotel")
    new = whole.removeprefix("the ").removesuffix(" hotel")
    assert new.isalpha() and new != "lensfield", "its kind and number of words stay"
    assert text("is the Lensfield booked? lensfield hotel, at 53-57 Lensfield road!").startswith(
        f"is the {new} booked? {new} hotel, at "
    )
    assert text("rosa ' s bed and breakfast").removesuffix(" ' s bed and breakfast") != "rosa"
    assert text("rosas b&b or rosas bed & breakfast") == "rosas b&b or rosas bed & breakfast", "no form of the name"
    assert text("rosas bed and breakfast") == text("rosa ' s bed and breakfast").replace(" ' s", "s")
    assert text("a place in the south") == "a place in the south"
    assert text("the place").split()[0] == "the" and text("the place") != "the place"


def test_house_numbers_move_with_their_street() -> None:
    text = renewal().text
    whole = text("53-57 lensfield road")
    street = " ".join(whole.split()[1:])
    assert street.endswith(" road") and not {"53", "57"} & set(whole.replace("-", " ").split())
    assert text("54 lensfield road") not in (whole, f"54 {street}", f"53-57 {street}"), "any number before the street"
    assert text("lensfield road for 53 people") == f"{street} for 53 people"


def test_codes_are_found_however_they_are_spaced() -> None:
    text = renewal().text
    new = text("01223355017")
    assert len(new) == 11 and new.isdigit() and new != "01223355017"
    assert text("call 01223 355017 now") == f"call {new[:5]} {new[5:]} now"
    assert text("c.b 2, 1 e.n") == "c.b " + text("cb21en")[2] + ", " + text("cb21en")[3] + " " + ".".join(text("cb21en")[4:])
    assert text("cb22 ha").replace(" ", "") == text("cb22ha")
    assert text("012233550171") == "012233550171", "a part of a longer code is none"


def test_invented_words_are_in_no_text() -> None:
    first = renewal().text("the lensfield hotel").split()[1]
    assert renewal(taken=frozenset({first})).text("the lensfield hotel").split()[1] != first
    made = source(turn(f"{first} is a word here"))
    assert next(iter(renew(made, VALUES, setting="condensed").entities)).name.split()[1] != first


def test_a_data_set_is_renewed_throughout() -> None:
    gold = ("the lensfield hotel", "south", "01223355017")
    old = source(
        turn("the lensfield hotel is in the south", gold=gold[:2]),
        turn("01223355017", "a hotel", "the lensfield", "call it", gold=gold[2:], number=1),
    )
    made = renew(old, VALUES, setting="large_scale")
    first, second = made.turns("test")
    name = made.entities[0].name
    assert (first.response, first.gold_values) == (f"{name} is in the south", (name, "south"))
    assert second.context == ("a hotel", name.removesuffix(" hotel"), "call it")
    assert second.response == second.gold_values[0] == made.entities[0].attributes["phone"].replace(" ", "")
    assert (first.id, first.gold_entities, first.kb) == ("d#0", ("a",), ())
    assert made.values == ["lensfield" if contains_words(name, "lensfield") else name.split()[1], name]
    assert dict(made.entities[0].attributes) | {"area": "south", "stars": "3 star"} == dict(made.entities[0].attributes)
    assert [list(e.attributes) for e in made.entities] == [list(e.attributes) for e in ENTITIES]
    again = renew(old, VALUES, setting="large_scale")
    assert list(again.entities) == list(made.entities) and list(again.turns("test")) == [first, second]
    assert list(renew(old, replace_seed(7), setting="large_scale").entities) != list(made.entities)


def replace_seed(seed: int) -> RenewParams:
    return RenewParams(values=True, seed=seed)


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    made = source()
    assert renew(made, RenewParams(), setting="condensed") is made


def test_distractors_need_the_large_scale_setting() -> None:
    with pytest.raises(ParamsError, match=r"`dialogues.renew.distractors` must be 0 in the condensed setting.*but is 3\. Set"):
        renew(source(), RenewParams(distractors=3), setting="condensed")


def test_values_and_distractors_together() -> None:
    made = renew(source(), RenewParams(values=True, distractors=50), setting="large_scale")
    assert [e.id for e in made.entities[:3]] == ["a", "b", "c"] and len(made.entities) == 53
    assert len({e.name for e in made.entities}) == 53
    assert all("lensfield" not in value for e in made.entities for value in e.attributes.values())
    assert len(made.values) == 2, "the entity list keeps to the data set's own"


@pytest.mark.parametrize(
    ("kind", "changed", "responses"), [("multiwoz", (0.75, 0.80), (0.29, 0.33)), ("camrest", (0.56, 0.62), (0.32, 0.37))]
)
def test_published_test_sets(kind: str, changed: tuple[float, float], responses: tuple[float, float]) -> None:
    if not (REAL / kind).exists():
        pytest.skip(f"{kind} is not fetched (data/external/tod)")
    reader = {"multiwoz": multiwoz, "camrest": camrest}[kind]
    whole = reader.read(DialoguesParams.model_validate({"kind": kind, "path": str(REAL / kind / "raw")}), root=Path())
    turns = list(whole.turns("test"))
    old = replace(whole, stream=lambda split: iter(turns if split == "test" else ()))
    made = renew(old, VALUES, setting="large_scale")
    both = list(zip(old.turns("test"), made.turns("test"), strict=True))
    texts = [((a.context, a.response), (b.context, b.response)) for a, b in both]
    assert changed[0] < sum(a != b for a, b in texts) / len(texts) < changed[1]
    assert responses[0] < sum(a[1] != b[1] for a, b in texts) / len(texts) < responses[1]
    values = [(x, y, a, b) for a, b in both for x, y in zip(a.gold_values, b.gold_values, strict=True) if x != y]
    said = [(y, b) for x, y, a, b in values if contains_words(normalise(a.response), normalise(x))]
    assert len(said) > 300 and all(contains_words(normalise(b.response), normalise(y)) for y, b in said)
    names = [(normalise(a.name), normalise(b.name)) for a, b in zip(old.entities, made.entities, strict=True)]
    assert len({new for _, new in names}) == len({name for name, _ in names})
    for before, after in zip(old.turns("test"), made.turns("test"), strict=True):
        texts = normalise(before.response), normalise(after.response)
        assert [contains_words(texts[0], a) for a, _ in names] == [contains_words(texts[1], b) for _, b in names]
        assert not any(contains_words(texts[1], a) for a, b in names if " " in a)
