"""Fields of instruction rows that no reader uses and that change what a row means: refused by name instead of being lost."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from models.data.validate import BadRecord, shown
from models.params.corpus import RecordFormat

_FIELDS: Mapping[RecordFormat, frozenset[str]] = {
    "alpaca": frozenset({"id", "instruction", "input", "output", "system", "history", "reference"}),
    "messages": frozenset({"id", "messages", "conversations", "system", "reference"}),
    "qa": frozenset({"id", "question", "answer", "context", "choices", "system", "reference"}),
    "text": frozenset({"id", "text", "reference"}),
}
# Names as data sets write them, all in snake case: what a prompt has beside its text, …
_ATTACHED = r"(?:image|video|audio)s?(?:_(?:url|path|file|bytes|data)s?)?|attachments?"
_TOOLS = r"(?:available_)?(?:tool|function)s|tool_(?:calls?|call_ids?|results?|responses?|outputs?)|function_calls?"
# … parts of the prompt itself, and the choices of a question, each in a field of its own.
_SYSTEM = r"sys(?:tem)?(?:_(?:prompt|message|msg|instructions?|text))?"
_GIVEN = (
    r"(?:\w+_)?history|inputs?|contexts?|passages?|paragraphs?|articles?|story|background|documents?|premise|hypothesis|support"
    r"|hints?|lecture|tables?|choices|options|endings|few_shot(?:_\w+)?|(?:in_context_)?examples|demonstrations"
)
_CHOICE = r"[a-h]|(?:choice|option|op|ending|distractor)_?(?:[a-h]|\d)"
_REASONING = r"reasoning(?:_content)?|thinking|thoughts?|refusal"
_WEIGHTS = frozenset({"weight", "loss_weight"})
_TRAINED = frozenset({"loss", "train", "trainable", "train_on_turn"})
_MASKED = frozenset({"mask", "masked", "loss_mask", "label_mask", "ignore"})
_OF_CHATS = "|".join((_ATTACHED, _TOOLS, _SYSTEM, _GIVEN, _REASONING))
# A plain text is whole, whatever stands beside it.
_OF_ROWS: Mapping[RecordFormat, str] = {
    "alpaca": _OF_CHATS,
    "messages": _OF_CHATS,
    "qa": f"{_OF_CHATS}|{_CHOICE}",
    "text": _ATTACHED,
}
_OF_TURNS = f"{_OF_CHATS}|name"
_READ_OF_TURNS = frozenset({"role", "content", "from", "value"})
# What stands for nothing in exported tables.
_NOTHING = frozenset({"", "[]", "{}", "null", "none", "nan"})
# A field this like one that is read is a slip of the pen.
_LIKENESS = 0.88
_CURE = "Write what it says into the prompt, or take the field or the row out."


def refuse_lost(row: Mapping[str, Any], format: RecordFormat) -> None:
    """Refuse a row with a field that would be lost, or whose name looks like one that its format reads.

    Raises:
        BadRecord: There is one.
    """
    read = _FIELDS[format]
    for field, value in row.items():
        name = _snake(field)
        if field in read or not _is_given(value):
            continue
        if name not in read and re.fullmatch(_OF_ROWS[format], name):
            raise BadRecord(f"must not have the field `{field}`, which would be lost", shown(value), _CURE)
        _refuse_weight(name, value, f"`{field}`")
        targets = [known for known in read if known != "id" and (known == name or known not in row)]
        if close := get_close_matches(name, targets, n=1, cutoff=_LIKENESS):
            raise BadRecord(f"must not have the field `{field}`", shown(value), f"Did you mean `{close[0]}`?")


def refuse_lost_of_turn(turn: Mapping[str, Any], within: str, *, last: bool) -> None:
    """Refuse a turn with a field that would be lost. Of the last one, the response, also what keeps it from being trained.

    Raises:
        BadRecord: There is one.
    """
    for field, value in turn.items():
        name, place = _snake(field), f"`{within}.{field}`"
        lost = re.fullmatch(_OF_TURNS, name) or (name in _READ_OF_TURNS and field != name)
        if lost and _is_given(value):
            raise BadRecord(f"must not have the field {place}, which would be lost", shown(value), _CURE)
        if last:
            _refuse_weight(name, value, place)


def _refuse_weight(name: str, value: object, place: str) -> None:
    trained = (
        value is None
        or (name in _WEIGHTS and value == 1)
        or (name in _TRAINED and value in (True, 1))
        or (name in _MASKED and value in (False, 0))
    )
    if name in _WEIGHTS | _TRAINED | _MASKED and not trained:
        rule = f"must have a response that is trained with its full weight, not another in {place}"
        raise BadRecord(rule, shown(value), "Take the row out, or the field.")


def _snake(field: object) -> str:
    """Return a field's name in snake case: `toolCalls`, `Tool-Calls` and `tool calls ` are `tool_calls`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-.]+", "_", str(field).strip()).lower()


def _is_given(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    return value is not None and value not in ([], {}, ()) and value is not False
