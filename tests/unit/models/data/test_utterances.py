"""User and system take turns, whatever an application sends."""

from typing import Any

import pytest

from models.data.utterances import join_speakers, live_context
from models.errors import DataError

USER, BOT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}


def test_what_one_speaker_says_in_a_row_is_joined() -> None:
    said = [("user", "a"), ("user", "b"), ("system", ""), ("user", "c"), ("user", ""), ("system", "d")]
    assert join_speakers(said) == [("user", "a b"), ("system", ""), ("user", "c"), ("system", "d")]
    assert join_speakers([]) == []


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        (["welcome", "a"], ("welcome", "a")),
        (["a", "", "b"], ("a b",)),  # the system said nothing
        (["a\nSystem:  b"], ("a system: b",)),  # as in training: lower case, single blanks
        (["Post_Code \ud83d?"], ("post code \ufffd?",)),
        ([USER, USER, BOT, BOT, USER, {"role": "user", "content": "a pub"}], ("hi hi", "yes? yes?", "hi a pub")),
        ([BOT, USER], ("yes?", "hi")),
    ],
)
def test_contexts_of_a_conversation(context: list[Any], expected: tuple[str, ...]) -> None:
    assert live_context(context) == expected


@pytest.mark.parametrize("context", [[], [" "], ["a", "b", ""], [USER, BOT], [3], [{"role": "tool", "content": "x"}]])
def test_others_cannot_be_answered(context: list[Any]) -> None:
    with pytest.raises(DataError, match=r"`context(\[\d\])?` must"):
        live_context(context)
