from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ties import Ties, fitting_entities, lost, recalls
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.evaluation.dialogue.retrieval_scores import RetrievalRow

KB = KnowledgeBase(
    [
        *(Entity(f"r{i}", "restaurant", {"name": f"house {i}", "food": "thai" if i < 3 else "greek"}) for i in range(5)),
        Entity("h0", "hotel", {"name": "oak", "food": "thai"}),
    ]
)


def turn(*context: str, entity: str, values: tuple[str, ...]) -> Turn:
    return Turn(
        id=context[0], dialogue="d", turn=0, domain="restaurant", kind="response", context=context, response="x",
        gold_entities=(entity,), gold_values=values,
    )  # fmt: skip


def test_what_the_context_says_of_the_named_entity_decides_who_ties() -> None:
    ties = Ties(KB, attributes=("food",))
    thai = turn("some thai food please", entity="r2", values=("house 2", "thai"))
    assert ties.fitting(thai).tolist() == [0, 1, 2], "the hotel is of another domain"
    named = turn("the phone of house 1 please", entity="r1", values=("house 1",))
    assert ties.fitting(named).tolist() == [1]


def test_ties_stand_by_falling_order_before_all_others() -> None:
    ties = Ties(KB, attributes=("food",))
    thai = turn("some thai food please", entity="r2", values=("house 2",))
    rare, often = np.array([3.0, 2, 1, 9, 8, 7]), np.array([1.0, 2, 3, 9, 8, 7])
    assert ties.ranked([thai], rare, k=4) == [[0, 1, 2, 3]]
    assert ties.ranked([thai], often, k=5) == [[2, 1, 0, 3, 4]]


def test_where_the_response_speaks_of_nothing_everything_ties() -> None:
    empty = Turn(id="t", dialogue="d", turn=0, domain="restaurant", kind="response", context=("hi",), response="hello")
    assert Ties(KB, attributes=None).fitting(empty).tolist() == list(range(len(KB)))


def row(name: str, *, first: bool, rank: int | None) -> RetrievalRow:
    return RetrievalRow(
        id=name, dialogue=name, domain="restaurant", first_mention=first, num_values=1, num_looked_for=1, value_rank=rank,
        num_entities=0, id_rank=None,
    )  # fmt: skip


def test_lost_turns_are_those_found_on_the_own_knowledge_base_alone() -> None:
    own = [[row("a", first=True, rank=1), row("b", first=True, rank=7), row("c", first=False, rank=2)]]
    enlarged = [
        [row("a", first=True, rank=7), row("b", first=True, rank=None), row("c", first=False, rank=None)],
        [row("a", first=True, rank=None), row("b", first=True, rank=8), row("c", first=False, rank=3)],
    ]
    found = {r.more["turns"]: (r.value, r.num) for r in lost("x", own, enlarged, {"kb": "5 distractors"})}
    assert found == {"all": (2.0, 3), "first mentions": (1.5, 2), "others": (0.5, 1)}
    shares = {(r.more["metric"], r.more["turns"]): r.value for r in recalls("x", own, {})}
    assert shares["recall_value@7", "all"] == 100 and shares["recall_value@1", "all"] == pytest.approx(100 / 3)


def test_entities_that_fit_are_counted_apart_for_first_mentions() -> None:
    first = replace(turn("some thai food please", entity="r2", values=("house 2",)), first_mention=True)
    known = turn("the phone of house 1 please", entity="r1", values=("house 1",))
    silent = turn("hello", entity="r1", values=())
    rows = list(fitting_entities("x", [first, known, silent], Ties(KB, attributes=("food",)), {}))
    assert {(r.more["metric"], r.more["turns"], r.value, r.num) for r in rows} == {
        ("fitting_median", "first mentions", 3.0, 1), ("fitting_mean", "first mentions", 3.0, 1),
        ("fitting_median", "others", 1.0, 1), ("fitting_mean", "others", 1.0, 1),
    }  # fmt: skip


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_ranking_equals_a_full_sort(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.integers(0, 4, len(KB)).astype(float)  # with ties
    thai = turn(f"some thai food please {seed}", entity="r2", values=("house 2",))
    ties = Ties(KB, attributes=("food",))
    assert ties.ranked([thai], order, k=k) == [
        np.lexsort((-order, ~np.isin(np.arange(len(KB)), ties.fitting(thai))))[:k].tolist()
    ]


@given(st.integers(0, 2**31))
def test_entities_that_fit_are_all_that_have_what_was_asked_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    foods, areas = rng.integers(0, 2, 12), rng.integers(0, 3, 12)
    kb = KnowledgeBase(
        Entity(f"r{i}", "restaurant" if i % 3 else "hotel", {"name": f"house {i}", "food": f"food{f}", "area": f"area{a}"})
        for i, (f, a) in enumerate(zip(foods, areas, strict=True))
    )
    asked = turn(f"food{foods[4]} in area{areas[4]} please", entity="r4", values=("house 4",))
    wanted = [i for i in range(12) if i % 3 and foods[i] == foods[4] and areas[i] == areas[4]]
    assert Ties(kb, attributes=None).fitting(asked).tolist() == wanted
