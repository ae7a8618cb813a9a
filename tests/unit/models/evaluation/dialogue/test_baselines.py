"""BM25 by hand, and its published floor."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.errors import RetrievalError
from models.evaluation.dialogue.baselines import Bm25, Frequency


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


ROWS: tuple[Mapping[str, str], ...] = (
    {"name": "red lion", "area": "north", "food": "thai"},
    {"name": "lion", "area": "north", "food": "north"},
    {"name": "red lion inn", "area": "south", "food": "thai"},
    {"name": "?", "area": "12:30", "food": "saint john ' s"},
)
KB = KnowledgeBase(Entity(str(i), "d", values) for i, values in enumerate(ROWS))


def scores(context: list[str], **kwargs: object) -> list[float]:
    hits = Frequency(KB, **kwargs).rank([context], 4)  # type: ignore[arg-type]
    table = np.zeros(4)
    table[hits.rows[0]] = hits.scores[0]
    return table.tolist()


def test_distinct_values_as_whole_words() -> None:
    assert scores(["Thai food at the Red-Lion , red lion !"]) == [2, 1, 1, 0]
    assert scores(["in the north", "north northern"]) == [1, 1, 0, 0]
    assert scores(["redlion lions thailand"]) == [0, 0, 0, 0]
    assert scores(["at 12:30 in saint john's"]) == [0, 0, 0, 2]


def test_chosen_attributes_only() -> None:
    assert scores(["thai red lion north"], attributes=["food"]) == [1, 1, 1, 0]


def test_ties_and_sessions() -> None:
    frequency = Frequency(KB)
    assert frequency.rank([["thai"], ["hello"]], 9).rows.tolist() == [[0, 2, 1, 3], [0, 1, 2, 3]]
    hits = frequency.rank([["thai"], ["thai"]], 3, within=[[3, 2], []])
    assert hits.rows.tolist() == [[2, 3, -1], [-1, -1, -1]]
    assert hits.counts.tolist() == [2, 0]
