from dataclasses import replace
from typing import Any

import pytest

from models.dialogue.data.checks import SplitStats, TurnChecks, checked_kb, kb_stats
from models.dialogue.data.readers.base import ReadLog
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError

KB = checked_kb([Entity("a", "hotel", {"name": "x"}), Entity("b", "bar", {"name": "y", "food": "pies"})])


def turn(dialogue: str, number: int, **fields: Any) -> Turn:
    made = Turn(id=f"{dialogue}#{number}", dialogue=dialogue, turn=number, domain="bar", context=("hi",), response="hello")
    return replace(made, **fields)


def left(*turns: Turn) -> tuple[list[str], list[str]]:
    log = ReadLog()
    sound = [t.id for t in TurnChecks(KB, log).sound(turns, "train")]
    return sound, [str(problem) for problem in log.problems]


def test_sound_turns_pass() -> None:
    turns = [turn("d", 0, kb=()), turn("d", 2, kb=("a", "b"), gold_entities=("a",)), turn("e", 0, response="")]
    assert left(*turns) == (["d#0", "d#2", "e#0"], [])


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (turn("d", 0), "number of its own"),
        (turn("d", 1, id="other"), "as its id"),
        (turn("d", 1, context=()), "by turns"),
        (turn("d", 1, context=("a", "b")), "by turns"),
        (turn("d", 1, gold_entities=("a", "z")), "entities of the knowledge base, but is 'z'"),
        (turn("d", 1, kb=("a", "y")), "entities of the knowledge base, but is 'y'"),
        (turn("d", 1, kb=("a", "a")), "once"),
    ],
)
def test_a_malformed_turn_is_named_and_left_out(bad: Turn, rule: str) -> None:
    sound, problems = left(turn("d", 0), bad, turn("d", 2))
    assert sound == ["d#0", "d#2"]
    assert len(problems) == 1
    assert problems[0].startswith(f"train turn `{bad.id}`")
    assert rule in problems[0]


def test_a_dialogue_comes_once_in_all_splits() -> None:
    log = ReadLog()
    checks = TurnChecks(KB, log)
    assert [t.id for t in checks.sound([turn("d", 0), turn("e", 0), turn("d", 1)], "train")] == ["d#0", "e#0"]
    assert [t.id for t in checks.sound([turn("f", 0), turn("e", 1)], "valid")] == ["f#0"]
    assert [t.id for t in checks.sound([turn("f", 1), turn("g", 0)], "test")] == ["g#0"]
    assert [p.where for p in log.problems] == ["train turn `d#1`", "valid turn `e#1`", "test turn `f#1`"]


def test_a_knowledge_base_needs_entities_with_ids_and_names() -> None:
    with pytest.raises(DataError, match="at least one entity"):
        checked_kb([])
    with pytest.raises(DataError, match="entity `b` must have a name"):
        checked_kb([KB[0], Entity("b", "bar", {})])
    with pytest.raises(DataError, match="same id"):
        checked_kb([KB[0], KB[0]])
    assert len(checked_kb([Entity("c", "bar", {"title": "z"}), *KB.entities])) == 3, "attributes may differ"


TURNS = (
    Turn("d#0", "d", 0, "bar", ("hi there",), "which area", dynamic={"choice": ("3",)}),
    Turn("d#1", "d", 1, "bar", ("a", "b", "c d"), "api call north", kind="api_call", gold_values=("north",), kb=("x", "y")),
    Turn("e#0", "e", 0, "inn", ("e",), "", gold_values=("x",), gold_entities=("x",), first_mention=True),
    Turn("e#1", "e", 1, "inn", ("e", "f", "g"), "x is a bar", gold_entities=("x",), kb=("x",)),
)


def test_turns_are_counted_as_they_pass() -> None:
    stats = SplitStats()
    assert tuple(stats.watch(iter(TURNS))) == TURNS
    assert stats.to_json() == {
        "turns": 4,
        "dialogues": 2,
        "api_calls": 1,
        "empty_responses": 1,
        "domains": {"bar": 2, "inn": 2},
        "share_of_turns": {"dynamic": 0.25, "first_mention": 0.25, "gold_entities": 0.5, "gold_values": 0.5, "kb": 0.5},
        "mean_per_turn": {"context_utterances": 2.0, "context_words": 2.5, "kb_entities": 0.75, "response_words": 2.25},
    }


def test_an_empty_split_has_zeros() -> None:
    made = SplitStats().to_json()
    assert (made["turns"], made["dialogues"], set(made["mean_per_turn"].values())) == (0, 0, {0.0})


def test_a_knowledge_base_is_counted_by_domain_and_attribute() -> None:
    rows = [Entity("a", "inn", {"name": "a", "stars": "4"}), Entity("b", "bar", {"name": "b"}), Entity("c", "bar", {"name": "c"})]
    assert kb_stats(rows) == {"entities": 3, "domains": {"bar": 2, "inn": 1}, "attributes": {"name": 3, "stars": 1}}
