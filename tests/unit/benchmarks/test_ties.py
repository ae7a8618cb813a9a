import numpy as np

from benchmarks.ties import Ties
from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase

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
    assert ties.fitting(thai).tolist() == [True, True, True, False, False, False], "the hotel is of another domain"
    named = turn("the phone of house 1 please", entity="r1", values=("house 1",))
    assert np.flatnonzero(ties.fitting(named)).tolist() == [1]


def test_ties_stand_by_falling_order_before_all_others() -> None:
    ties = Ties(KB, attributes=("food",))
    thai = turn("some thai food please", entity="r2", values=("house 2",))
    rare, often = np.array([3.0, 2, 1, 9, 8, 7]), np.array([1.0, 2, 3, 9, 8, 7])
    assert ties.ranked([thai], rare, k=4) == [[0, 1, 2, 3]]
    assert ties.ranked([thai], often, k=5) == [[2, 1, 0, 3, 4]]


def test_where_the_response_speaks_of_nothing_everything_ties() -> None:
    empty = Turn(id="t", dialogue="d", turn=0, domain="restaurant", kind="response", context=("hi",), response="hello")
    assert Ties(KB, attributes=None).fitting(empty).all()
