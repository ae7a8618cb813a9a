"""What a real-time query gives reaches a turn with the answer that issues it, and no turn before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.corpus.text import contains_words
from models.dialogue.data.dynamic_values import issued, restrict_dynamic_values
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.readers import multiwoz
from models.dialogue.data.records import Turn, read_kb, read_turns
from models.dialogue.data.value_finder import matchable
from models.dialogue.generators.base import DialogueItem
from models.errors import DataError
from models.evaluation.dialogue.baselines import Frequency
from models.evaluation.dialogue.entity_f1 import EntityList, count_values, rule_for
from models.evaluation.dialogue.retrieval_scores import score_retrieval
from models.metrics_sink import NullSink
from models.params.dialogues import DialoguesParams, TownParams
from models.records import from_row

MULTIWOZ = Path("data/external/tod/multiwoz/raw")
ANSWERS = ("many people ask ; there are many", "booked , your reference is ab12", "the oak , in the north", "good bye")
DYNAMIC = {"choice": ("many",), "ref": ("ab12", "zz99")}


def dialogue(name: str = "d", *, dynamic: Any = DYNAMIC, answers: tuple[str, ...] = ANSWERS, **fields: Any) -> list[Turn]:
    """Turns that all have the values of the whole dialogue, as published data do."""
    turns, context = [], ()
    for number, answer in enumerate(answers):
        context = (*context, "and ab12 zz99 ?")
        turns.append(Turn(f"{name}#{number}", name, number, "pub", context, answer, dynamic=dynamic, **fields))
        context = (*context, answer)
    return turns


def prepared(folder: Path, cfg: DialoguesParams, *, root: Path = Path()) -> Path:
    prepare_dialogues(cfg, root=root, out=folder, sink=NullSink())
    return folder


def said_by_then(turn: Turn, value: str) -> bool:
    answers = (*turn.context[1::2], turn.response)
    return any(contains_words(matchable(text), matchable(value)) for text in answers)


def test_a_value_is_known_from_the_turn_whose_answer_says_it() -> None:
    many, ref = {"choice": ("many",)}, {"choice": ("many",), "ref": ("ab12",)}
    assert [turn.dynamic for turn in issued(dialogue(), {})] == [many, ref, ref, ref]


def test_the_annotation_decides_where_it_has_the_value() -> None:
    turns = dialogue(answers=("how many people ?", "there are many"))
    turns[1] = from_row(Turn, {**turns[1].to_json(), "gold_values": ["Many"]})
    assert [dict(turn.dynamic) for turn in issued(turns, {})] == [{}, {"choice": ("many",)}]


def test_dialogues_are_apart_and_queries_issue_nothing() -> None:
    first, second = dialogue("a", answers=ANSWERS[:2]), dialogue("b", answers=ANSWERS[2:])
    assert [dict(t.dynamic) for t in issued([*first, *second], {})][2:] == [{}, {}]
    assert [dict(t.dynamic) for t in issued(dialogue(answers=("ref ab12",), kind="api_call"), {})] == [{}]


def test_an_answer_that_is_no_turn_of_the_split_has_issued_its_values() -> None:
    assert [t.dynamic["ref"] for t in issued(dialogue()[2:], {})] == [("ab12",)] * 2


def test_what_is_offered_to_one_turn_is_not_kept_for_the_next() -> None:
    turns = [
        from_row(Turn, {**t.to_json(), "dynamic": d}) for t, d in zip(dialogue(), ({"choice": ["many"]}, {}, {}, {}), strict=True)
    ]
    assert [dict(t.dynamic) for t in issued(turns, {})] == [{"choice": ("many",)}, {}, {}, {}]


def write(folder: Path, kb: list[dict[str, Any]]) -> DialoguesParams:
    (folder / "kb.jsonl").write_text("\n".join(map(json.dumps, kb)))
    said = ["a pub", "the oak is nice", "book it", "done : the oak , number k7x9", "thanks", "bye"]
    rows = [{"dialogue": "d", "context": said[: 2 * i + 1], "response": said[2 * i + 1]} for i in range(3)]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({**row, "dialogue": split}) for row in rows))
    return DialoguesParams(kind="jsonl", path=folder.name, dynamic_attributes=("ticket",))


def test_dynamic_attributes_leave_the_entities_and_come_when_issued(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    cfg = write(
        folder, [{"id": 1, "name": "The Oak", "area": "north", "ticket": "K7X9"}, {"id": 2, "name": "Elm", "ticket": "Q1W2"}]
    )
    out = prepared(tmp_path / "out", cfg, root=tmp_path)
    assert [set(entity.attributes) for entity in read_kb(out / "kb.jsonl")] == [{"name", "area"}, {"name"}]
    turns = list(read_turns(out / "test.jsonl"))
    assert [dict(turn.dynamic) for turn in turns] == [{}, {"ticket": ("k7x9",)}, {"ticket": ("k7x9",)}]
    assert [dict(DialogueItem.of(turn, ()).dynamic) for turn in turns[:2]] == [{}, {"ticket": ("k7x9",)}]
    leaky = prepared(tmp_path / "leaky", cfg.model_copy(update={"dynamic_values": "published"}), root=tmp_path)
    assert all("ticket" in entity.attributes for entity in read_kb(leaky / "kb.jsonl"))


@pytest.mark.parametrize("name", ["tickets", "name"])
def test_a_dynamic_attribute_must_be_one(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    cfg = write(folder, [{"id": 1, "name": "The Oak", "ticket": "K7X9"}])
    with pytest.raises(
        DataError, match=rf"`dialogues.dynamic_attributes` must be an attribute .* is '{name}'. Attributes: ticket."
    ):
        prepared(tmp_path / "out", cfg.model_copy(update={"dynamic_attributes": (name,)}), root=tmp_path)


def test_a_value_in_an_answers_own_words_is_known_once_it_has_been_said() -> None:
    later = [dict(turn.dynamic) for turn in issued(dialogue(), {}, known_from={"choice": "later"})]
    assert later == [{}, {"choice": ("many",), "ref": ("ab12",)}, *[{"choice": ("many",), "ref": ("ab12",)}] * 2]
    query = [dict(turn.dynamic) for turn in issued(dialogue(dynamic={"choice": ("7",)}), {}, known_from={"choice": "query"})]
    assert query == [{"choice": ("7",)}] * 4


def test_the_embedded_town_gives_no_value_before_its_time(tmp_path: Path) -> None:
    out = prepared(tmp_path, DialoguesParams(town=TownParams(num_entities=24, num_dialogues=60)))
    turns = list(read_turns(out / "train.jsonl"))
    booked = [(turn, ref) for turn in turns for ref in turn.dynamic.get("ref", ())]
    assert booked and all(said_by_then(turn, ref) for turn, ref in booked)
    counted = [said_by_then(turn, count) for turn in turns for count in turn.dynamic.get("choice", ())]
    assert counted.count(True) > 5 and counted.count(False) > 5, "the count is there whether or not the answer will say it"


def printed(turns: Sequence[Turn], entities: EntityList, name: str) -> float:
    """Entity F1 of a system that prints what a real-time query gave, and nothing else."""
    hits = surplus = missed = 0.0
    for turn in turns:
        found = entities.extract("there are " + " ; there are ".join(turn.dynamic.get(name, ())))
        if counts := count_values(found, entities.extract(turn.response)):
            hits, surplus, missed = hits + counts[0], surplus + counts[1], missed + counts[2]
    return 2 * hits / (2 * hits + surplus + missed)


@pytest.mark.skipif(not MULTIWOZ.exists(), reason=f"{MULTIWOZ} is not there")
def test_multiwoz_leaks_no_more() -> None:
    cfg = DialoguesParams(kind="multiwoz", path=str(MULTIWOZ))
    source = multiwoz.read(cfg, root=Path())
    entities, kb = EntityList(source.values, rule=rule_for("multiwoz")), KnowledgeBase(source.entities)
    published, honest = list(source.turns("test")), list(restrict_dynamic_values(source, cfg).turns("test"))
    given = [(turn, value) for turn in honest for values in turn.dynamic.values() for value in values]
    assert len(given) > 100 and all(said_by_then(turn, value) for turn, value in given)
    assert not all(said_by_then(t, v) for t in published for values in t.dynamic.values() for v in values)
    assert printed(published, entities, "choice") > 0.10
    assert printed(honest, entities, "choice") < 0.01
    hits = Frequency(kb).rank([turn.context for turn in honest], 7).rows.tolist()
    rows = [list(score_retrieval(turns, hits, kb, recall_at=(7,), value_attributes=None)) for turns in (published, honest)]
    assert rows[0] == rows[1], "retrieval is scored as before"
