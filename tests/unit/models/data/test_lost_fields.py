"""What an instruction row says is used, or refused by name."""

from typing import Any

import pytest

from models.data.formats import parse_row
from models.data.validate import BadRecord
from models.params.corpus import CorpusSet

ALPACA = {"instruction": "Continue.", "output": "Blue."}
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
QA = {"question": "Which?", "answer": "B"}
TEXT = {"text": "word " * 40}


def _said(format: str, row: dict[str, Any]) -> list[tuple[str, str]]:
    example = parse_row(row, CorpusSet(name="n", path="x", format=format), number=1)
    return [(message.role, message.content) for message in example.messages]


def test_system_and_history_are_turns_before_the_instruction() -> None:
    row = {**ALPACA, "system": "Only colours.", "history": [["Name one.", "Red."], ["Another?", "Green."]]}
    assert _said("alpaca", row) == [
        ("system", "Only colours."),
        ("user", "Name one."),
        ("assistant", "Red."),
        ("user", "Another?"),
        ("assistant", "Green."),
        ("user", "Continue."),
    ]
    assert _said("alpaca", {**ALPACA, "system": "", "history": []}) == [("user", "Continue.")]


def test_a_system_prompt_beside_the_turns_comes_first() -> None:
    assert _said("messages", {**CHAT, "system": "Be brief."}) == [("system", "Be brief."), ("user", "Hi")]
    same = {"messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]], "system": "Be brief."}
    assert _said("messages", same) == [("system", "Be brief."), ("user", "Hi")]
    with pytest.raises(BadRecord, match="must have one system prompt"):
        _said("messages", {**same, "system": "Be long."})


@pytest.mark.parametrize(
    "choices", [["a", "b"], {"text": ["a", "b"], "label": ["A", "B"]}, {"A": "a", "B": "b"}], ids=["list", "columns", "labels"]
)
def test_context_and_choices_stand_around_the_question(choices: object) -> None:
    assert _said("qa", {**QA, "context": "Paragraph.", "choices": choices}) == [("user", "Paragraph.\nWhich?\nA. a\nB. b")]


@pytest.mark.parametrize(
    ("format", "row", "field"),
    [
        ("alpaca", {**ALPACA, "history": ["Red."]}, "`history`"),
        ("alpaca", {**ALPACA, "history": [["Red.", 3]]}, "`history[0].assistant`"),
        ("alpaca", {**ALPACA, "context": "x"}, "`context`"),
        ("alpaca", {**ALPACA, "images": ["a.png"]}, "`images`"),
        ("alpaca", {**ALPACA, "inputs": "x"}, "`inputs`"),
        ("alpaca", {**ALPACA, "Input": "x"}, "`Input`"),
        ("alpaca", {**ALPACA, "weight": 0.5}, "`weight`"),
        ("messages", {**CHAT, "tools": [{"name": "f"}]}, "`tools`"),
        ("messages", {**CHAT, "tools": '[{"name": "f"}]'}, "`tools`"),
        ("messages", {**CHAT, "documents": ["x"]}, "`documents`"),
        ("qa", {**QA, "passage": "x"}, "`passage`"),
        ("qa", {**QA, "options": ["a"]}, "`options`"),
        ("qa", {**QA, "choices": [1, 2]}, "`choices`"),
        ("qa", {**QA, "choices": {"text": ["a"], "label": []}}, "`choices`"),
        ("qa", {**QA, "history": [["a", "b"]]}, "`history`"),
        ("text", {**TEXT, "image": "a.png"}, "`image`"),
        ("text", {**TEXT, "Image URL": "a.png"}, "`Image URL`"),
        ("alpaca", {**ALPACA, "input": "", "Input": "x"}, "`Input`"),
        ("alpaca", {**ALPACA, "systemPrompt": "x"}, "`systemPrompt`"),
        ("alpaca", {**ALPACA, "system-message": "x"}, "`system-message`"),
        ("alpaca", {**ALPACA, "dialogHistory": "x"}, "`dialogHistory`"),
        ("alpaca", {**ALPACA, "few_shot_examples": ["x"]}, "`few_shot_examples`"),
        ("messages", {**CHAT, "Available Tools": ["f"]}, "`Available Tools`"),
        ("qa", {**QA, "paragraphs": ["x"]}, "`paragraphs`"),
        ("qa", {**QA, "A": "a", "B": "b"}, "`A`"),
        ("qa", {**QA, "choice1": "a"}, "`choice1`"),
        ("qa", {**QA, "optionA": "a"}, "`optionA`"),
        ("qa", {**QA, "opa": "a"}, "`opa`"),
    ],
)
def test_a_field_that_would_be_lost_is_refused_by_name(format: str, row: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRecord) as caught:
        _said(format, row)
    assert field in caught.value.rule


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        (0, {"images": ["x"]}),
        (1, {"tool_calls": [{"function": {"name": "f"}}]}),
        (1, {"function_call": {"name": "f"}}),
        (1, {"reasoning_content": "think"}),
        (1, {"weight": 0}),
        (1, {"train": False}),
        (1, {"loss_mask": 1}),
        (0, {"name": "Bob"}),
        (0, {"context": "x"}),
        (1, {"toolCalls": [{"name": "f"}]}),
        (1, {"reasoning-content": "think"}),
        (1, {"image_url": "x"}),
        (1, {"Content": "more"}),
    ],
)
def test_a_turn_that_would_lose_something_is_refused_by_name(place: int, fields: dict[str, Any]) -> None:
    turns = [dict(turn) for turn in CHAT["messages"]]
    turns[place].update(fields)
    with pytest.raises(BadRecord) as caught:
        _said("messages", {"messages": turns})
    assert f"`messages[{place}].{next(iter(fields))}`" in caught.value.rule


@pytest.mark.parametrize(
    "more",
    [
        {"tools": "[]", "system": None, "history": [], "images": []},
        {"weight": 1, "loss": True, "source": "x", "prompt_id": 3, "meta": {"context": 1}, "uid": "7", "context_id": 4},
    ],
)
def test_empty_and_foreign_fields_are_left_alone(more: dict[str, Any]) -> None:
    assert _said("messages", {**CHAT, **more}) == [("user", "Hi")]
    assert _said("alpaca", {**ALPACA, **more}) == [("user", "Continue.")]
    assert _said("text", {**TEXT, **more, "input": "x"})


def test_earlier_turns_may_be_left_untrained() -> None:
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    assert len(_said("messages", {"messages": earlier + CHAT["messages"]})) == 3
