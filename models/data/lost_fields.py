"""Fields of instruction rows that no reader uses and that change what a row means: refused by name instead of being lost."""

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
_ATTACHED = frozenset({"image", "images", "video", "videos", "audio", "audios", "attachments"})
_TOOLS = frozenset({"tools", "functions", "tool_calls", "function_call", "tool_call_id"})
# Parts of a prompt, by the names that data sets give them.
_PROMPT = frozenset(
    {"system", "system_prompt", "history", "input", "inputs", "context", "contexts", "passage", "passages", "document"}
    | {"documents", "choices", "options", "few_shot", "demonstrations"}
)
_REASONING = frozenset({"reasoning_content", "reasoning", "thinking", "thought", "thoughts", "refusal"})
_WEIGHTS = frozenset({"weight", "loss_weight"})
_TRAINED = frozenset({"loss", "train", "trainable", "train_on_turn"})
_MASKED = frozenset({"mask", "masked", "loss_mask", "label_mask", "ignore"})
_OF_CHATS = _ATTACHED | _TOOLS | _PROMPT | _REASONING
# A plain text is whole, whatever stands beside it.
_OF_ROWS: Mapping[RecordFormat, frozenset[str]] = {"alpaca": _OF_CHATS, "messages": _OF_CHATS, "qa": _OF_CHATS, "text": _ATTACHED}
_OF_TURNS = _ATTACHED | _TOOLS | _REASONING | {"name"}
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
        name = str(field).strip().lower()
        if field in read or not _is_given(value):
            continue
        if name in _OF_ROWS[format] and name not in read:
            raise BadRecord(f"must not have the field `{field}`, which would be lost", shown(value), _CURE)
        _refuse_weight(name, value, f"`{field}`")
        targets = [known for known in read if known not in ("id", *row)]
        if close := get_close_matches(name, targets, n=1, cutoff=_LIKENESS):
            raise BadRecord(f"must not have the field `{field}`", shown(value), f"Did you mean `{close[0]}`?")


def refuse_lost_of_turn(turn: Mapping[str, Any], within: str, *, last: bool) -> None:
    """Refuse a turn with a field that would be lost. Of the last one, the response, also what keeps it from being trained.

    Raises:
        BadRecord: There is one.
    """
    for field, value in turn.items():
        name, place = str(field).strip().lower(), f"`{within}.{field}`"
        if name in _OF_TURNS and _is_given(value):
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


def _is_given(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    return value is not None and value not in ([], {}, ()) and value is not False
