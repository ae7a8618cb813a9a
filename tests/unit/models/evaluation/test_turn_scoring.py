"""One turn of one system: every statistic from its own rule."""

import pytest

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.evaluation.bleu import BLEU
from models.evaluation.dialogue_scores import Retrieved
from models.evaluation.entity_f1 import EntityList
from models.evaluation.entity_rules import PLAIN
from models.evaluation.retrieval_scores import RetrievalRow
from models.evaluation.turn_scoring import TurnScorer, retrieval_statistics

_KB = KnowledgeBase(
    [Entity("r1", "restaurant", {"name": "golden wok", "area": "north"}), Entity("r2", "restaurant", {"name": "pizza hut"})]
)
_SCORER = TurnScorer(EntityList(["golden wok", "north", "pizza hut", "cheap"], rule=PLAIN), _KB)
_TURN = Turn("d#1", "d", 1, "restaurant", ("hello",), "golden wok is in the north .", gold_values=("golden wok",))


def test_a_response_gets_every_statistic() -> None:
    row = _SCORER.score(
        _TURN, retrieved=[Retrieved("r1", 0.9, "top")], retrieval={"mrr": (1.0, 1.0)}, response="pizza hut, north"
    )
    assert row.statistics["entity_f1"] == (1, 1, 1)
    assert row.statistics["annotated_f1"] == (0, 2, 1)
    assert row.statistics["hallucination"] == (1, 2)
    assert row.hallucinated == ("pizzahut",)
    assert row.statistics["bleu"] == BLEU.statistics("pizza hut, north", _TURN.response)
    assert row.statistics["mrr"] == (1.0, 1.0)
    assert (row.has_gold, row.first_mention, row.reference) == (True, False, _TURN.response)


def test_only_what_the_generator_read_supports_its_response() -> None:
    found = [Retrieved("r1", 0.9), Retrieved("r2", 0.8)]
    rows = [_SCORER.score(_TURN, retrieved=found, retrieval={}, response="pizza hut", num_read=num) for num in (None, 1)]
    assert [row.hallucinated for row in rows] == [(), ("pizzahut",)]
    assert all(len(row.retrieved) == 2 for row in rows)


def test_a_retriever_alone_has_none_of_the_responses() -> None:
    row = _SCORER.score(_TURN, retrieved=[], retrieval={"mrr": (0.5, 1.0)})
    assert (row.response, dict(row.statistics), row.hallucinated) == (None, {"mrr": (0.5, 1.0)}, ())


def test_turns_without_values_do_not_count_for_entity_f1_but_for_hallucination() -> None:
    bye = Turn("d#2", "d", 2, "restaurant", ("thanks",), "good bye .")
    row = _SCORER.score(bye, retrieved=[], retrieval={}, response="try pizza hut")
    assert "entity_f1" not in row.statistics and "annotated_f1" not in row.statistics
    assert row.statistics["hallucination"] == (1, 1)
    assert not row.has_gold


def test_notes_name_signature_and_list() -> None:
    notes = _SCORER.notes
    assert notes["bleu"] == BLEU.signature
    assert "rule plain; list of 4 values, sha256 " in notes["entity_f1"]
    assert set(notes) == {"bleu", "bleu_maker", "entity_f1", "annotated_f1", "hallucination", "recall_value"}


@pytest.mark.parametrize(("ranks", "expected"), [
    ((2, 1), {"recall_value@1": 0, "recall_value@3": 1, "recall_id@1": 1, "recall_id@3": 1, "mrr": 1.0}),
    ((None, 3), {"recall_value@1": 0, "recall_value@3": 0, "recall_id@1": 0, "recall_id@3": 1, "mrr": 1 / 3}),
    ((4, 4), {"recall_value@1": 0, "recall_value@3": 0, "recall_id@1": 0, "recall_id@3": 0, "mrr": 0.0}),
])  # fmt: skip
def test_ranks_become_recalls(ranks: tuple[int | None, int | None], expected: dict[str, float]) -> None:
    row = RetrievalRow("d#1", "d", "restaurant", False, 1, 1, ranks[0], 1, ranks[1])
    found = retrieval_statistics(row, recall_at=(1, 3))
    assert {name: top for name, (top, _) in found.items()} == expected
    assert {bottom for _, bottom in found.values()} == {1.0}


def test_turns_without_gold_have_no_recall() -> None:
    nothing = RetrievalRow("d#1", "d", "restaurant", False, 0, 0, None, 0, None)
    assert retrieval_statistics(nothing, recall_at=(1,)) == {} == retrieval_statistics(None, recall_at=(1,))
    by_value_only = RetrievalRow("d#1", "d", "restaurant", False, 2, 2, 1, 0, None)
    assert set(retrieval_statistics(by_value_only, recall_at=(1,))) == {"recall_value@1"}
