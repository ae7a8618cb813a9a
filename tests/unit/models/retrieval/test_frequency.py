"""Counting values in the context."""

from collections.abc import Mapping

import numpy as np

from models.data.dialogue import Entity
from models.data.knowledge_base import KnowledgeBase
from models.retrieval.frequency import Frequency

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
