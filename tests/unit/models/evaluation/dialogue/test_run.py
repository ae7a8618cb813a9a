"""The systems below which nothing counts: a constant answer, and the first entity copied."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.dialogue_systems import dialogue_systems
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn, write_kb, write_turns
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.evaluation.dialogue.baselines import Frequency
from models.evaluation.dialogue.comparison import aggregate
from models.evaluation.dialogue.entity_f1 import PLAIN, EntityList
from models.evaluation.dialogue.metrics import BLEU
from models.evaluation.dialogue.retrieval_scores import RetrievalRow
from models.evaluation.dialogue.run import HeldOut, TurnScorer, constant_responses, copied_responses, retrieval_statistics
from models.evaluation.dialogue.scores import Retrieved
from models.evaluation.dialogue.system import DialogueSystem
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.params.retriever import RetrieverParams
from models.reporting.dialogue.data import dialogue_result_rows
from models.reporting.dialogue.grids import main_grid

KB = KnowledgeBase([Entity("a", "pub", {"name": "the oak", "area": "north"}), Entity("b", "pub", {"name": "elm inn"})])
TURNS = [
    Turn("d#0", "d", 0, "pub", ("the oak ?",), "the oak is in the north", gold_values=("the oak", "north"), gold_entities=("a",)),
    Turn("d#1", "d", 1, "pub", ("elm inn ?",), "elm inn is nice", gold_values=("elm inn",), gold_entities=("b",)),
]


def held_out(folder: Path) -> HeldOut:
    write_kb(folder / "kb.jsonl", KB.entities)
    write_turns(folder / "test.jsonl", TURNS)
    RequestLexicon(("area",)).write(folder)
    (folder / "values.json").write_text('["the oak", "north", "elm inn"]')
    return HeldOut(folder, DialogueEvaluationParams(), kind="jsonl", condensed=False, root=folder)


def test_the_constant_answer_is_what_training_says_most() -> None:
    call = replace(TURNS[0], kind="api_call", response="call")
    assert constant_responses([call, call, *TURNS, TURNS[1]], 3) == ["elm inn is nice"] * 3
    assert constant_responses(TURNS, 1) == ["the oak is in the north"]
    assert constant_responses([call], 2) == ["", ""]


def test_a_copy_is_the_first_entity() -> None:
    hits = Frequency(KB).rank([["the oak"], ["elm inn"]], 1)
    assert copied_responses(hits, 2, KB, attributes=None) == ["name the oak ; area north", "name elm inn"]
    assert copied_responses(hits, 1, KB, attributes=("name",)) == ["name the oak"]
    nothing = Frequency(KB).rank([["the oak"]], 1, within=[[]])
    assert copied_responses(nothing, 1, KB, attributes=None) == [""]


def test_floors_stand_in_the_tables_with_scores_of_responses_alone(tmp_path: Path) -> None:
    held = held_out(tmp_path)
    hits = Frequency(KB).rank(held.contexts, 1)
    found, copied = held.retrieved(hits), copied_responses(hits, 2, KB, attributes=None)
    null, copy = DialogueSystem("null", "response_floor"), DialogueSystem("copy_first", "response_floor")
    scores = {null: list(held.score_texts([[], []], ["bye"] * 2)), copy: list(held.score_texts(found, copied))}
    table = aggregate(scores)
    f1 = {row.system: row.value for row in table if row.metric == "entity_f1"}
    assert f1 == {null: 0.0, copy: 1.0}
    assert not [row for row in table if "recall_" in row.metric]
    assert {row.name for row in dialogue_result_rows(table)} == {"constant answer", "first entity copied"}
    assert {line[0].text for line in main_grid(table).rows} >= {"constant answer", "first entity copied"}


def test_every_evaluation_has_them() -> None:
    params = SimpleNamespace(variants=("none",), dialogue_evaluation=DialogueEvaluationParams(), retriever=RetrieverParams())
    systems = [s for s in dialogue_systems(SimpleNamespace(params=params)) if s.kind == "response_floor"]  # type: ignore[arg-type]
    assert [s.name for s in systems] == ["null", "copy_first"]
    assert [s.folder for s in systems] == ["response_floor-null", "response_floor-copy_first"]


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
    assert set(notes) == {"bleu", "bleu_maker", "entity_f1", "annotated_f1", "hallucination", "recall_value", "fit"}


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
