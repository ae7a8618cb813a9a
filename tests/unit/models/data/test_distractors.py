from collections import Counter

from models.data.dialogue import Entity
from models.data.distractors import distractors
from models.data.renew_words import Inventor

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
