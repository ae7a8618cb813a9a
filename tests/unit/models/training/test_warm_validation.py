from dataclasses import replace
from pathlib import Path

import pytest

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.params.retriever import PicoEncoder, RetrieverParams
from models.retrieval.encoder import build_retriever
from models.retrieval.recall_rule import RecallRule
from models.training.warm_validation import WarmValidation, recall_scores

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


@pytest.mark.parametrize("condensed", [True, False])
def test_turns_retrieve_from_their_session_only_where_dialogues_have_one(condensed: bool) -> None:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    retriever = build_retriever(cfg, texts=["name h1 ; area north"], root=Path())
    # The first finds what its two entities hold, the second has no entities (a calendar that is still empty).
    turns = [replace(_turn(ids=("1",)), kb=("1", "5")), _turn(ids=("1",))]
    validation = WarmValidation(turns, KB, device="cpu", condensed=condensed)
    scores, index = validation.score(retriever)
    assert len(index) == (2 if condensed else 8)
    # Without sessions both search the same entities with the same words.
    assert scores.by_id[3] in ({0.5} if condensed else {0.0, 1.0})
    assert scores.num_by_id == 2


def test_where_no_turn_has_entities_nothing_is_found() -> None:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    retriever = build_retriever(cfg, texts=["name h1 ; area north"], root=Path())
    scores, index = WarmValidation([_turn(ids=("1",))], KB, device="cpu", condensed=True).score(retriever)
    assert (len(index), scores.by_id[7], scores.num_by_id) == (0, 0.0, 1)
