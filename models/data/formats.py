"""Record formats: one parsed JSON row becomes an `Example`.

`alpaca`: instruction, input (may be empty), output. `messages`: turns in `messages` (role, content) or `conversations`
(from, value), the last one the response. `qa`: question, answer. `text`: text, cut into prompt and response.
Every format takes an optional `id`, and an optional `reference`: what `check` looks for, where that is not the whole response.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from models.data.number_answer import number_in
from models.data.validate import BadRecord, optional_text, require_text, shown
from models.params.corpus import CorpusSet
from models.schema import Check, Example, Message

Role = Literal["system", "user", "assistant"]
Parts = tuple[tuple[Message, ...], str, bool]
"""Prompt, response, and whether the response goes to its end."""

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


class LeftOut(Exception):
    """A well-formed record that the params leave out; `reason` is its name in the counts."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


def parse_row(row: object, cfg: CorpusSet, *, number: int) -> Example:
    """Make an example of a row.

    Args:
        row: What the line holds.
        cfg: The data set.
        number: Row number, the id where the row has none.

    Raises:
        BadRecord: The row breaks a rule of its format.
        LeftOut: The row is too short (`text`) or longer than `max_chars`.
    """
    if not isinstance(row, Mapping):
        raise BadRecord("must be a JSON object", shown(row))
    messages, response, ended = _FORMATS[cfg.format](row, cfg)
    if cfg.max_chars is not None and sum(len(m.content) for m in messages) + len(response) > cfg.max_chars:
        raise LeftOut("too_long")
    return Example(
        id=f"{cfg.name}/{_row_id(row, number)}",
        family=cfg.family or cfg.name,
        messages=messages,
        response=response,
        answer=None if cfg.check == "none" else reference_answer(row, response, cfg.check),
        check=cfg.check,
        seen_by=cfg.seen_by,
        ended=ended,
    )


def reference_answer(row: Mapping[str, Any], response: str, check: Check) -> str:
    """Return what a correct response must hold.

    The field `reference` if there is one, else the response itself. For `number` it is the number in it, as
    `evaluate` will read it in a model's response.

    Raises:
        BadRecord: `check` is `number` and there is none.
    """
    reference = str(optional_text(row, "reference"))
    text = reference if reference.strip() else response
    if check != "number":
        return text
    number = number_in(text)
    if number is None:
        raise BadRecord("must have a number in the answer, as `check` is `number`", shown(text))
    return number


def _alpaca(row: Mapping[str, Any], _: CorpusSet) -> Parts:
    instruction, given = require_text(row, "instruction"), optional_text(row, "input")
    prompt = f"{instruction}\n{given}" if given.strip() else instruction
    return (Message("user", prompt),), require_text(row, "output"), True


def _qa(row: Mapping[str, Any], _: CorpusSet) -> Parts:
    return (Message("user", require_text(row, "question")),), require_text(row, "answer"), True


def _messages(row: Mapping[str, Any], _: CorpusSet) -> Parts:
    field = "conversations" if "messages" not in row and "conversations" in row else "messages"
    turns = row.get(field)
    if not isinstance(turns, Sequence) or isinstance(turns, str) or len(turns) < 2:
        raise BadRecord(f"must have at least two turns in `{field}`", shown(turns) if field in row else "missing")
    messages = tuple(_turn(turn, f"{field}[{i}]") for i, turn in enumerate(turns))
    if messages[-1].role != "assistant":
        raise BadRecord("must end with a turn by the assistant", messages[-1].role)
    if messages[-2].role != "user":
        raise BadRecord("must have a turn by the user before the last", messages[-2].role)
    return messages[:-1], messages[-1].content, True


def _turn(turn: object, within: str) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRecord(f"must have an object in `{within}`", shown(turn))
    role_field, text_field = ("from", "value") if "role" not in turn and "from" in turn else ("role", "content")
    role = require_text(turn, role_field, within=within)
    if role not in _ROLES:
        raise BadRecord(f"must have one of {', '.join(_ROLES)} in `{within}.{role_field}`", role)
    return Message(_ROLES[role], require_text(turn, text_field, within=within))


def _text(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    text = require_text(row, "text")
    prompt, rest = text[: cfg.prompt_chars], text[cfg.prompt_chars :].rstrip()
    response = _cut(rest, cfg.response_chars)
    if not response.strip() or not prompt.strip():
        raise LeftOut("too_short")
    return (Message("user", prompt),), response, response == rest


def _cut(text: str, most: int) -> str:
    """Keep at most `most` characters, ending with a whole word where there is a blank to cut at."""
    if len(text) <= most:
        return text.rstrip()
    ends = [m.start() for m in re.finditer(r"\s", text[: most + 1]) if text[: m.start()].strip()]
    return text[: ends[-1] if ends else most].rstrip()


def _row_id(row: Mapping[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return f"{number:06d}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return require_text(row, "id")


_FORMATS: Mapping[str, Callable[[Mapping[str, Any], CorpusSet], Parts]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "qa": _qa,
    "text": _text,
}
