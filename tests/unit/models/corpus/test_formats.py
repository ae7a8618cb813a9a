from typing import Any

import pytest

from models.corpus.fields import BadRecord
from models.corpus.formats import LeftOut, parse_row
from models.params.corpus import CorpusSet
from models.records import from_row
from models.schema import Example, Message


def cfg(format: str, **fields: Any) -> CorpusSet:
    return CorpusSet(name="set", path="x.jsonl", format=format, **fields)


def user(example: Example) -> str:
    assert [m.role for m in example.messages] == ["user"]
    return example.messages[0].content


def test_alpaca_joins_instruction_and_input_by_a_newline() -> None:
    row = {"id": "r-1", "instruction": "Add.", "input": "2 and 3", "output": "5"}
    assert parse_row(row, cfg("alpaca"), number=9) == Example("set/r-1", "set", (Message("user", "Add.\n2 and 3"),), "5")
    for empty in ("", "  ", None):
        assert user(parse_row({**row, "input": empty}, cfg("alpaca"), number=9)) == "Add."
    assert user(parse_row({"instruction": "Add.", "output": "5"}, cfg("alpaca"), number=9)) == "Add."


def test_family_seen_by_and_numbered_ids_come_from_the_set() -> None:
    example = parse_row({"question": "q", "answer": "a"}, cfg("qa", family="maths", seen_by=("m",)), number=12)
    assert (example.id, example.family, example.seen_by) == ("set/000012", "maths", ("m",))
    assert parse_row({"id": 7, "question": "q", "answer": "a"}, cfg("qa"), number=1).id == "set/7"


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Bye"},
                {"role": "assistant", "content": "So long"},
            ]
        },
        {
            "conversations": [
                {"from": "system", "value": "Be kind."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Bye"},
                {"from": "gpt", "value": "So long"},
            ]
        },
    ],
)
def test_the_last_turn_is_the_response(row: dict[str, Any]) -> None:
    example = parse_row(row, cfg("messages"), number=1)
    assert example.response == "So long"
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]


def test_text_is_cut_at_a_word_and_keeps_its_newlines() -> None:
    text = "One day,\na cat sat down on the warm mat and slept."
    example = parse_row({"text": text}, cfg("text", prompt_chars=9, response_chars=14), number=1)
    assert (user(example), example.response) == ("One day,\n", "a cat sat down")
    example = parse_row({"text": text}, cfg("text", prompt_chars=9, response_chars=16), number=1)
    assert example.response == "a cat sat down", "a word that does not fit is left out"
    example = parse_row({"text": text}, cfg("text", prompt_chars=9, response_chars=17), number=1)
    assert example.response == "a cat sat down on", "a word that ends at the limit stays"
    example = parse_row({"text": text}, cfg("text", prompt_chars=8, response_chars=8), number=1)
    assert example.response == "\na cat", "the response goes on where the prompt ends"
    example = parse_row({"text": "abcdefgh" * 9}, cfg("text", prompt_chars=8, response_chars=10), number=1)
    assert example.response == "abcdefghab", "without a blank it is cut at the limit"


@pytest.mark.parametrize("text", ["Too short", "Exactly..\n \n", "x"])
def test_short_texts_are_left_out(text: str) -> None:
    with pytest.raises(LeftOut, match="too_short"):
        parse_row({"text": text}, cfg("text", prompt_chars=9), number=1)


def test_max_chars_counts_prompt_and_response() -> None:
    row = {"question": "12345", "answer": "678"}
    assert parse_row(row, cfg("qa", max_chars=8), number=1).response == "678"
    with pytest.raises(LeftOut, match="too_long"):
        parse_row(row, cfg("qa", max_chars=7), number=1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It takes 2/2=<<2/2=1>>1 bolt.\nSo 2+1=<<2+1=3>>3 bolts\n#### 3", "3"),
        ("So $1,200.50 in all.\n#### 1,200.50", "1200.50"),
        ("Below zero.\n#### -7", "-7"),
        ("12 apples and 30 pears", "30"),
        ("It is 5-3", "3"),
        ("That makes 1,250,000.", "1250000"),
    ],
)
def test_the_number_checked_is_the_marked_or_the_last(answer: str, expected: str) -> None:
    example = parse_row({"question": "q", "answer": answer}, cfg("qa", check="number"), number=1)
    assert (example.answer, example.check, example.response) == (expected, "number", answer)


def test_reference_overrides_the_response_as_what_is_checked() -> None:
    row = {"instruction": "Capital?", "output": "It is Plada, of course.", "reference": "Plada"}
    assert parse_row(row, cfg("alpaca", check="contains"), number=1).answer == "Plada"
    del row["reference"]
    assert parse_row(row, cfg("alpaca", check="contains"), number=1).answer == "It is Plada, of course."
    assert parse_row(row, cfg("alpaca"), number=1).answer is None


@pytest.mark.parametrize(
    ("format", "row", "rule", "value"),
    [
        ("alpaca", [1], "must be a JSON object", "list [1]"),
        ("alpaca", {"output": "x"}, "must have the field `instruction`", "{output}"),
        ("alpaca", {"instruction": 3, "output": "x"}, "must have text in `instruction`", "int 3"),
        ("alpaca", {"instruction": "x", "output": " \n"}, "must have text in `output`", "' \\n'"),
        ("alpaca", {"instruction": "x", "input": ["y"], "output": "z"}, "must have text in `input`", "list ['y']"),
        ("alpaca", {"id": True, "instruction": "x", "output": "z"}, "must have text in `id`", "bool True"),
        ("qa", {"question": "x", "answer": 2}, "must have text in `answer`", "int 2"),
        ("qa", {"question": "x", "answer": "\ud800"}, "must have valid Unicode in `answer`", "at character 0"),
        ("text", {}, "must have the field `text`", "{}"),
        ("messages", {"x": 1}, "must have at least two turns in `messages`", "missing"),
        ("messages", {"messages": "hi"}, "must have at least two turns in `messages`", "str 'hi'"),
        ("messages", {"messages": [1, 2]}, "must have an object in `messages[0]`", "int 1"),
        (
            "messages",
            {"messages": [{"role": "tool", "content": "x"}, {"role": "user", "content": "x"}]},
            "in `messages[0].role`",
            "tool",
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}]},
            "must have the field `messages[1].content`",
            "role, content",
        ),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]},
            "must end with a turn by the assistant",
            "user",
        ),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": "y"}]},
            "must have a turn by the user before the last",
            "assistant",
        ),
    ],
)
def test_bad_records_name_field_and_value(format: str, row: Any, rule: str, value: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_row(row, cfg(format), number=1)
    assert rule in caught.value.rule
    assert value in caught.value.value


def test_a_number_check_without_a_number_is_a_bad_record() -> None:
    with pytest.raises(BadRecord) as caught:
        parse_row({"question": "q", "answer": "seven"}, cfg("qa", check="number"), number=1)
    assert "must have a number" in caught.value.rule


def test_a_text_that_its_reader_cut_has_not_ended() -> None:
    """Only what `response_chars` shortens is cut; blanks at the end of a text are not part of it."""
    text = "One day,\na cat sat down."
    rows = {
        size: parse_row({"text": text + " \n"}, cfg("text", prompt_chars=9, response_chars=size), number=1)
        for size in (14, 15, 99)
    }
    assert {size: example.ended for size, example in rows.items()} == {14: False, 15: True, 99: True}
    assert rows[14].to_json()["ended"] is False and "ended" not in rows[99].to_json()
    for example in rows.values():
        assert from_row(Example, example.to_json()) == example
    assert parse_row({"question": "q", "answer": "a" * 500}, cfg("qa"), number=1).ended


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
