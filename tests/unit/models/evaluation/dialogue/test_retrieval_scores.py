"""The two rules of retrieval, turn by turn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import pytest

from models.corpus.text import ALL_SCRIPTS, TextRule
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, ValueTable, looked_for, score_retrieval

KB = KnowledgeBase(
    [
        Entity("a", "hotel", {"name": "red lion", "area": "north", "postcode": "cb1 2ab"}),
        Entity("b", "hotel", {"name": "the inn", "area": "south", "postcode": "cb5"}),
        Entity("c", "food", {"name": "thai house", "area": "north", "secret": "blue"}),
    ]
)
TURN = Turn("d#0", "d", 0, "hotel", ("hello",), "the red lion in the north")


def score(turn: Turn, hits: Sequence[int], **kwargs: object) -> RetrievalRow:
    settings = {"recall_at": (1, 3), "value_attributes": None, **kwargs}
    return next(score_retrieval([turn], [hits], KB, **settings))  # type: ignore[arg-type]


def value_rank(values: Sequence[str], hits: Sequence[int] = (1, 2, 0), **kwargs: object) -> int | None:
    return score(replace(TURN, gold_values=tuple(values)), hits, **kwargs).value_rank


def test_values_may_come_from_different_entities() -> None:
    assert value_rank(["south", "north"]) == 2
    assert value_rank(["south", "red lion"]) == 3
    assert value_rank(["red lion"], hits=(0, 1, 2)) == 1


def test_values_are_compared_without_blanks_and_punctuation() -> None:
    assert value_rank(["CB12AB"]) == 3
    assert value_rank(["the-inn"]) == 1
    assert value_rank(["the", "inn"]) == 1  # neither is a value: nothing to look for


def test_values_the_knowledge_base_cannot_give_are_free() -> None:
    row = score(replace(TURN, gold_values=("4 star", "south")), [2, 0, 1])
    assert (row.num_values, row.num_looked_for, row.value_rank) == (2, 1, 3)
    empty = score(replace(TURN, gold_values=("4 star",)), [2, 0, 1])
    assert (empty.num_values, empty.num_looked_for, empty.value_rank) == (1, 0, 1)


def test_dynamic_values_are_free_even_if_an_entity_has_them() -> None:
    booked = replace(TURN, gold_values=("cb 5", "north"), dynamic={"ref": ("CB5",)})
    assert score(booked, [2, 0, 1]).value_rank == 1
    assert score(replace(booked, dynamic={}), [2, 0, 1]).value_rank == 3


def test_only_chosen_attributes_answer() -> None:
    assert value_rank(["blue"]) == 2
    assert value_rank(["blue", "south"], hits=(0, 1, 2), value_attributes=["name", "area"]) == 2


def test_all_gold_entities_are_needed() -> None:
    named = replace(TURN, gold_entities=("a", "b"))
    assert [score(named, hits).id_rank for hits in ([0, 1, 2], [2, 1, 0], [0, 2, 1])] == [2, 3, 3]
    row = score(TURN, [0, 1, 2])
    assert (row.num_entities, row.id_rank, row.num_values, row.value_rank) == (0, None, 0, None)


def test_what_is_behind_the_largest_k_does_not_count() -> None:
    named = replace(TURN, gold_entities=("a",), gold_values=("red lion",))
    row = score(named, [1, 2, 0], recall_at=(1, 2))
    assert (row.id_rank, row.value_rank) == (None, None)


def test_padding_is_not_the_last_entity() -> None:
    session = replace(TURN, gold_entities=("c",), kb=("a",))
    assert score(session, [0, -1, -1], within=True).id_rank is None


def test_too_few_entities_are_an_error_not_a_miss() -> None:
    with pytest.raises(DataError, match=r"turn `d#0` must have the 3 best entities retrieved for recall@3, but is 2"):
        score(TURN, [0, 1])
    with pytest.raises(DataError, match="2 best entities"):
        score(replace(TURN, kb=("a", "b")), [0, -1], within=True)
    with pytest.raises(DataError, match="unknown entities"):
        score(replace(TURN, gold_entities=("z",)), [0, 1, 2])
    with pytest.raises(ValueError):
        list(score_retrieval([TURN, TURN], [[0, 1, 2]], KB, recall_at=(1,), value_attributes=None))


def test_api_turns_are_left_out_unless_counted() -> None:
    asked = [TURN, replace(TURN, id="d#1", kind="api_call")]
    hits = [[0, 1, 2]] * 2
    kwargs = {"recall_at": (1,), "value_attributes": None}
    assert [r.id for r in score_retrieval(asked, hits, KB, **kwargs)] == ["d#0"]  # type: ignore[arg-type]
    assert [r.id for r in score_retrieval(asked, hits, KB, **kwargs, count_api=True)] == ["d#0", "d#1"]  # type: ignore[arg-type]


def test_turns_cost_nothing_by_the_size_of_the_knowledge_base() -> None:
    class LookedInto(frozenset[str]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("the values of the whole knowledge base are gone through for a turn")

        __sub__ = __iter__  # type: ignore[assignment]

    table = ValueTable(KB, attributes=None)
    table.known = LookedInto(table.known)
    turn = replace(TURN, gold_values=("red lion", "north", "17"), dynamic={"choice": ("17",), "area": ("north",)})
    assert looked_for(turn, table) == {"redlion"}


def test_values_of_entities_are_brought_to_their_form_once() -> None:
    seen: list[str] = []

    def watched(text: str) -> str:
        seen.append(text)
        return ALL_SCRIPTS.normalise(text)

    turns, rule = [replace(TURN, gold_values=("red lion",))] * 5, TextRule("watched", watched)
    assert len(list(score_retrieval(turns, [(1, 2, 0)] * 5, KB, recall_at=(3,), value_attributes=None, rule=rule))) == 5
    assert seen.count("the inn") == 1 and seen.count("north") == 1
