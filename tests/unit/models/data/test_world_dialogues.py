import re
from typing import Any

import pytest

from models.data.world import World, build_world
from models.data.world_dialogues import dialogue_splits, dialogues


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(7, num_entities=60)


@pytest.fixture(scope="module")
def rows(world: World) -> list[dict[str, Any]]:
    return list(dialogues(world, range(200)))


def test_splits_are_eight_one_one_and_cover_all() -> None:
    assert dialogue_splits(120) == {"train": range(96), "valid": range(96, 108), "test": range(108, 120)}
    assert {s: len(r) for s, r in dialogue_splits(6).items()} == {"train": 4, "valid": 1, "test": 1}


def test_every_value_stands_in_its_response_and_belongs_to_the_entity(world: World, rows: list[dict[str, Any]]) -> None:
    entities = {e.id: e for e in world.entities}
    for row in rows:
        for turn in row["turns"]:
            assert turn["user"]
            assert turn["response"]
            assert bool(turn["entities"]) == bool(turn["values"])
            for id in turn["entities"]:
                assert entities[id].type == row["domain"]
                assert set(turn["values"]) <= set(entities[id].attributes.values())
            for value in turn["values"]:
                assert re.search(rf"(?<!\w){re.escape(value)}(?!\w)", turn["response"]), (value, turn)


def test_a_dialogue_searches_offers_answers_and_ends(world: World, rows: list[dict[str, Any]]) -> None:
    entities = {e.id: e for e in world.entities}
    for row in rows:
        spoken_of = [t["entities"] for t in row["turns"]]
        assert spoken_of[-1] == []
        assert len({tuple(ids) for ids in spoken_of if ids}) == 1, "one goal"
        offer = next(i for i, ids in enumerate(spoken_of) if ids)
        goal = entities[spoken_of[offer][0]]
        wishes = " ".join(t["user"] for t in row["turns"][: offer + 1] if not t["response"].startswith("Sorry"))
        assert any(goal.attributes[slot] in wishes for slot in ("area", "pricerange", goal.special))
        assert len(spoken_of) > offer + 2, "something is asked about the offer"


def test_a_hopeless_wish_really_has_no_match(world: World, rows: list[dict[str, Any]]) -> None:
    refusals = [t["response"] for row in rows for t in row["turns"] if t["response"].startswith("Sorry")]
    assert len(refusals) > 10
    for text in refusals:
        found = re.fullmatch(r"Sorry, there is no (\w+) (\w+) in the (\w+)\. Is there something else\?", text)
        assert found is not None
        price, kind, area = found.groups()
        assert not [
            e for e in world.entities if (e.type, e.attributes["pricerange"], e.attributes["area"]) == (kind, price, area)
        ]


def test_a_dialogue_depends_on_its_number_only(world: World, rows: list[dict[str, Any]]) -> None:
    assert list(dialogues(world, range(150, 160))) == rows[150:160]
    assert len({str(row["turns"]) for row in rows}) == len(rows)
    assert {row["domain"] for row in rows} == {"restaurant", "hotel", "museum"}


def test_articles_fit(rows: list[dict[str, Any]]) -> None:
    text = " ".join(t[who] for row in rows for t in row["turns"] for who in ("user", "response"))
    assert not re.search(r"\ban [^aeiou]|\ba [aeiou]", text)
