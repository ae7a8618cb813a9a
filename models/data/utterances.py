"""Who said what: user and system take turns in every context, so utterances of one speaker in a row are one."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from models.data.text import whole_text
from models.data.tod_rows import plain
from models.data.validate import shown
from models.errors import DataError, Problem

SPEAKERS = {"user": "user", "assistant": "system", "system": "system"}
"""Role of a message → who speaks in the records."""


def join_speakers(said: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (speaker, text) with what one speaker says in a row joined by a blank."""
    runs = groupby(said, key=lambda one: one[0])
    return [(speaker, " ".join(text for _, text in run if text)) for speaker, run in runs]


def live_context(context: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the context of a conversation under way as the records have theirs (`plain`): by turns, the user's last.

    Args:
        context: Oldest first; texts by turns, the user's last, or messages {"role": "user" or "assistant", "content": text}.

    Raises:
        DataError: It holds something else, or does not end with the user.
    """
    turns = [_utterance(item, place, len(context)) for place, item in enumerate(context)]
    # A system that said nothing leaves the user's two utterances beside each other.
    said = join_speakers(turn for turn in turns if turn[1])
    if not said or not turns[-1][1] or said[-1][0] != "user":
        raise _bad("context", "must end with an utterance of the user", shown(context[-1]) if context else "empty")
    return tuple(text for _, text in said)


def _utterance(item: str | Mapping[str, Any], place: int, count: int) -> tuple[str, str]:
    speaker: str | None = ("system", "user")[(count - place) % 2]
    text: object = item
    if isinstance(item, Mapping):
        speaker, text = SPEAKERS.get(str(item.get("role"))), item.get("content")
    if speaker is None or not isinstance(text, str):
        raise _bad(f"context[{place}]", 'must be a text or {"role": "user" or "assistant", "content": text}', shown(item))
    return speaker, plain(whole_text(text))


def _bad(where: str, rule: str, value: str) -> DataError:
    hint = "Give the utterances oldest first, the user's last."
    return DataError("The turn cannot be answered", [Problem(f"`{where}`", rule, value, hint)])
