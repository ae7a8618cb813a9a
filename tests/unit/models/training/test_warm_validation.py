import numpy as np
import pytest

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.params.index import IndexParams
from models.retrieval.faiss_index import EntityIndex
from models.retrieval.recall_rule import RecallRule
from models.training.warm_validation import recall_scores, search_in

KB = KnowledgeBase([Entity(str(i), "hotel", {"name": f"h{i}", "area": "north" if i < 4 else "south"}) for i in range(8)])


def _turn(*values: str, ids: tuple[str, ...] = ()) -> Turn:
    return Turn("t#0", "t", 0, "hotel", ("hi",), "r", gold_values=values, gold_entities=ids)


def test_recall_counts_only_turns_that_have_something_to_find() -> None:
    turns = [_turn("h1", "north"), _turn("south"), _turn(ids=("6",)), _turn("ref99", ids=("0", "5"))]
    ranked = [[0, 2, 1, 3, 4, 5, 6], [4, 0, 1, 2, 3, 5, 6], [0, 1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 5, 4, 6]]
    scores = recall_scores(turns, ranked, RecallRule(KB))
    assert (scores.num_by_value, scores.num_by_id) == (3, 2)
    assert scores.by_value == {1: pytest.approx(2 / 3), 3: 1.0, 5: 1.0, 7: 1.0}
    assert scores.by_id == {1: 0.0, 3: 0.0, 5: 0.5, 7: 0.5}
    assert scores.choice == pytest.approx((2 / 3 + 3) / 4)
    assert scores.metrics()["retriever/recall_id@5"] == 0.5


def test_choice_falls_back_to_ids_and_then_to_nothing() -> None:
    by_id = recall_scores([_turn(ids=("0",))], [[0]], RecallRule(KB))
    assert by_id.choice == 1.0
    assert set(by_id.metrics()) == {f"retriever/recall_id@{k}" for k in (1, 3, 5, 7)}
    nothing = recall_scores([], [], RecallRule(KB))
    assert nothing.choice == 0.0
    assert nothing.metrics() == {}


def test_turns_without_a_session_search_everything() -> None:
    reps = np.eye(8, dtype=np.float32)
    index = EntityIndex.build(IndexParams(kind="flat"), reps, ids=np.arange(8), encoder_digest="", kb_digest="")
    hits = search_in(index, reps[[5, 5]], k=3, sessions=[[1, 2], []])
    assert [row for row, _ in hits.of(0)] == [1, 2]
    assert hits.of(1)[0][0] == 5
    assert search_in(index, reps[[5]], k=3, sessions=[[]]).of(0)[0][0] == 5
