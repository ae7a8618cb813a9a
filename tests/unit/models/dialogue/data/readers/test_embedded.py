from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from models.corpus.text import contains_words, normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive, seen_in_context
from models.dialogue.data.readers.base import SPLITS, DialogueSource
from models.dialogue.data.readers.embedded import CONDENSED_SIZE, read
from models.dialogue.data.records import Turn
from models.params.dialogues import DialoguesParams, TownParams
from models.world.town import build_world

TOWN = TownParams(num_entities=60, num_dialogues=100)


def source(setting: Any = "large_scale", town: TownParams = TOWN) -> DialogueSource:
    return read(DialoguesParams(town=town, setting=setting), root=Path("nowhere"))


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    return [turn for split in SPLITS for turn in source().turns(split)]


def test_the_places_of_the_town_are_the_entities() -> None:
    made, places = source(), build_world(TOWN.seed, num_entities=60).entities
    assert [e.id for e in made.entities] == [p.id for p in places]
    assert made.entities[0].name == places[0].name.lower()
    assert list(made.entities[0].attributes) == ["name", "type", "area", "pricerange", "food", "address", "postcode", "phone"]
    assert {e.domain for e in made.entities} == {"restaurant", "hotel", "museum"}
    assert set(made.values) == {v for e in made.entities for v in e.attributes.values()}
    assert len(made.values) == len(set(made.values))


def test_turns_have_their_texts_in_lower_case_and_order(turns: list[Turn]) -> None:
    assert len({t.id for t in turns}) == len(turns)
    assert len({t.dialogue for t in turns}) == 100
    for before, turn in pairwise(turns):
        assert turn.response == turn.response.lower()
        if turn.turn:
            assert turn.context[:-1] == (*before.context, before.response)
        else:
            assert len(turn.context) == 1


def test_what_a_turn_is_said_to_speak_of_is_what_its_texts_show(turns: list[Turn]) -> None:
    index = ValueIndex(KnowledgeBase(source().entities))
    for turn in turns:
        for value in turn.gold_values:
            assert contains_words(normalise(turn.response), normalise(value))
        named = index.rows_named([turn.response])
        new = [row for row in named if row not in index.rows_named(turn.context)]
        assert turn.first_mention == bool(new)
        if turn.gold_entities:
            assert pseudo_positive(turn, index) == index.kb.row_of[turn.gold_entities[0]]


def test_retrieval_is_no_matter_of_names_in_the_context(turns: list[Turn]) -> None:
    """Some turns are about an entity not yet seen, some about one of two that were."""
    index = ValueIndex(KnowledgeBase(source().entities))
    seen = [
        sum(seen_in_context(e, normalise(" ".join(turn.context)), index) for e in index.kb.entities)
        for turn in turns[::3]
        if turn.gold_entities
    ]
    assert seen.count(0) > 0.15 * len(seen)
    assert seen.count(2) > 0.08 * len(seen)


def test_the_condensed_knowledge_base_is_of_one_type_and_holds_what_is_spoken_of() -> None:
    made = source("condensed")
    domains = {e.id: e.domain for e in made.entities}
    by_dialogue: dict[str, set[tuple[str, ...]]] = {}
    for turn in made.turns("train"):
        assert len(set(turn.kb)) == CONDENSED_SIZE
        assert set(turn.gold_entities) <= set(turn.kb)
        assert {domains[id] for id in turn.kb} == {turn.domain}
        by_dialogue.setdefault(turn.dialogue, set()).add(turn.kb)
    assert all(len(own) == 1 for own in by_dialogue.values())
    assert len(set.union(*by_dialogue.values())) > 40


def test_the_settings_differ_in_the_knowledge_base_only(turns: list[Turn]) -> None:
    condensed = [turn.to_json() | {"kb": []} for turn in source("condensed").turns("test")]
    assert condensed == [turn.to_json() for turn in source().turns("test")]


def test_a_tiny_town_has_fewer_entities_of_a_type() -> None:
    made = source("condensed", TownParams(num_entities=8, num_dialogues=10))
    assert {len(turn.kb) for split in SPLITS for turn in made.turns(split)} <= {2, 3}
