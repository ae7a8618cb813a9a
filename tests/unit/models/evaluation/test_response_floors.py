"""The systems below which nothing counts: a constant answer, and the first entity copied."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from flows.dialogue_systems import dialogue_systems, place_of_rows
from models.data.dialogue import Entity, Turn
from models.data.dialogue_files import write_kb, write_turns
from models.data.knowledge_base import KnowledgeBase
from models.evaluation.dialogue_comparison import aggregate
from models.evaluation.dialogue_run import HeldOut
from models.evaluation.dialogue_scores import DialogueSystem
from models.evaluation.response_floors import constant_responses, copied_responses
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.reporting.dialogue_grids import main_grid
from models.reporting.dialogue_results import dialogue_result_rows
from models.retrieval.frequency import Frequency

KB = KnowledgeBase([Entity("a", "pub", {"name": "the oak", "area": "north"}), Entity("b", "pub", {"name": "elm inn"})])
TURNS = [
    Turn("d#0", "d", 0, "pub", ("the oak ?",), "the oak is in the north", gold_values=("the oak", "north"), gold_entities=("a",)),
    Turn("d#1", "d", 1, "pub", ("elm inn ?",), "elm inn is nice", gold_values=("elm inn",), gold_entities=("b",)),
]


def held_out(folder: Path) -> HeldOut:
    write_kb(folder / "kb.jsonl", KB.entities)
    write_turns(folder / "test.jsonl", TURNS)
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
    params = SimpleNamespace(variants=("none",), dialogue_evaluation=DialogueEvaluationParams())
    systems = [s for s in dialogue_systems(SimpleNamespace(params=params)) if s["kind"] == "response_floor"]  # type: ignore[arg-type]
    assert [s["name"] for s in systems] == ["null", "copy_first"]
    assert [place_of_rows(s) for s in systems] == ["response_floor-null", "response_floor-copy_first"]
