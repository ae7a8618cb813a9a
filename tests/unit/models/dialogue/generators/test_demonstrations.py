import math

import numpy as np
import pytest

from models.dialogue.data.records import Entity, Turn
from models.dialogue.generators.base import DialogueItem, RetrievedEntity
from models.dialogue.generators.demonstrations import DemonstrationPool, SimilarContexts
from models.dialogue.retrieval.meta_knowledge import EntityMeta


def turn(name: str, context: str, *, domain: str = "food", kind: str = "response", response: str = "ok") -> Turn:
    dialogue, _, place = name.partition("#")
    return Turn(name, dialogue, int(place), domain, (context,), response, kind=kind)  # type: ignore[arg-type]


TURNS = [
    turn("a#0", "cheap indian food in the north"),
    turn("a#1", "cheap indian food in the north please"),
    turn("b#0", "expensive thai food"),
    turn("c#0", "cheap food in the north", kind="api_call"),
    turn("d#0", "cheap indian food in the north", domain="hotel"),
    turn("e#0", "indian food in the north, cheap"),
    turn("f#0", "cheap indian food in the north", response=" "),
]


def item(context: str, *, name: str = "z#0", domain: str = "food") -> DialogueItem:
    return DialogueItem(name, domain, (context,), ())


def ids(picked) -> list[str]:
    return [d.turn.id for d in picked]


def test_most_similar_first_of_the_domain_and_of_different_dialogues():
    pool = DemonstrationPool(TURNS)
    [picked] = pool.pick([item("cheap indian food in the north")], 3)
    assert ids(picked) == ["a#0", "e#0", "b#0"], "a#1 is of a dialogue shown already; API calls and empty turns never"
    [[first]] = pool.pick([item("expensive thai")], 1)
    assert first.turn.id == "b#0"


def test_never_of_the_own_dialogue():
    [picked] = DemonstrationPool(TURNS).pick([item("cheap indian food in the north", name="a#5")], 2)
    assert ids(picked) == ["e#0", "b#0"]


def test_a_domain_never_trained_on_gets_any():
    [picked] = DemonstrationPool(TURNS).pick([item("expensive thai food", domain="taxi")], 1)
    assert ids(picked) == ["b#0"]


@pytest.mark.parametrize(("turns", "count"), [([], 2), (TURNS, 0)])
def test_none(turns, count):
    assert DemonstrationPool(turns).pick([item("x"), item("y")], count) == [(), ()]


def test_chosen_turns_are_retrieved_for_once_and_show_the_best_entities():
    asked: list[list[str]] = []

    def retrieve(turns):
        asked.append([t.id for t in turns])
        return [
            tuple(
                RetrievedEntity(r, Entity(f"{t.id}/{r}", "food", {"name": "x"}), EntityMeta(r + 1, 0.5, False)) for r in range(7)
            )
            for t in turns
        ]

    pool = DemonstrationPool(TURNS, retrieve=retrieve, num_entities=2)
    first, second = pool.pick([item("cheap indian food in the north"), item("expensive thai food")], 1)
    assert [[e.entity.id for e in d.entities] for d in (*first, *second)] == [["a#0/0", "a#0/1"], ["b#0/0", "b#0/1"]]
    pool.pick([item("expensive thai food")], 2)
    assert [sorted(a) for a in asked] == [["a#0", "b#0"]]


TEXTS = [("cheap food in the north",), ("a hotel,", "which area?", "the north"), ("a train to ely",), ()]


def by_hand(query: str, texts: list[str]) -> list[float]:
    docs = [t.split() for t in texts]
    mean = sum(map(len, docs)) / len(docs)
    total = []
    for doc in docs:
        score = 0.0
        for word in query.split():
            df = sum(word in d for d in docs)
            idf = math.log((len(docs) - df + 0.5) / (df + 0.5) + 1)
            tf = doc.count(word)
            score += idf * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * len(doc) / mean)) if tf else 0.0
        total.append(score)
    return total


def test_scores_are_those_of_bm25():
    similar = SimilarContexts(TEXTS)
    texts = ["cheap food in the north", "a hotel which area the north", "a train to ely", ""]
    assert similar.scores(("The NORTH, the north", "zebra")) == pytest.approx(by_hand("the north the north zebra", texts))
    assert len(similar) == 4


def test_unknown_words_and_no_contexts():
    assert SimilarContexts(TEXTS).scores(("zebra",)).tolist() == [0.0] * 4
    empty = SimilarContexts([])
    assert len(empty) == 0 and empty.scores(("a",)).shape == (0,)
    assert np.isfinite(SimilarContexts([(), ()]).scores(("a",))).all()
