"""BM25 by hand, and its published floor."""

import math

import pytest

from models.data.dialogue import Entity
from models.data.knowledge_base import KnowledgeBase
from models.retrieval.bm25 import Bm25
from models.retrieval.errors import RetrievalError


def knowledge_base(*values: str) -> KnowledgeBase:
    return KnowledgeBase(Entity(str(i), "d", {"name": value, "note": "zebra"}) for i, value in enumerate(values))


def test_scores_are_those_of_the_formula() -> None:
    bm25 = Bm25(knowledge_base("red lion", "lion lion king inn", "inn"), attributes=["name"], k1=1.5, b=0.75)
    hits = bm25.rank([["a lion ,", "The LION inn"]], 3)
    average = 7 / 3

    def term(frequency: int, length: int) -> float:
        idf = math.log((3 - 2 + 0.5) / (2 + 0.5) + 1)
        return idf * frequency / (frequency + 1.5 * (0.25 + 0.75 * length / average))

    # `lion` is asked for twice.
    want = {1: 2 * term(2, 4) + term(1, 4), 0: 2 * term(1, 2), 2: term(1, 1)}
    assert hits.rows[0].tolist() == sorted(want, key=lambda row: -want[row])
    assert hits.scores[0].tolist() == pytest.approx(sorted(want.values(), reverse=True), rel=1e-6)


def test_ties_stand_in_the_order_of_the_knowledge_base() -> None:
    bm25 = Bm25(knowledge_base("inn a", "pub", "inn b", "bar", "inn c"))
    assert bm25.rank([["inn"], ["nothing known"], []], 9).rows.tolist() == [[0, 2, 4, 1, 3]] + [[0, 1, 2, 3, 4]] * 2
    assert bm25.rank([["inn"]], 2).rows.tolist() == [[0, 2]]


def test_sessions_and_attributes() -> None:
    bm25 = Bm25(knowledge_base("inn a", "pub", "inn b"), attributes=["name"])
    hits = bm25.rank([["inn zebra"], ["pub"], ["pub"]], 2, within=[[1, 2], [0, 1, 2], []])
    assert hits.rows.tolist() == [[2, 1], [1, 0], [-1, -1]]
    assert hits.scores[0, 1] == 0
    assert hits.counts.tolist() == [2, 2, 0]


def test_entities_without_words_are_refused() -> None:
    with pytest.raises(RetrievalError, match="must have words in"):
        Bm25(knowledge_base("red lion"), attributes=["food"])
