"""Parsing of JSON rows in the supported record formats into examples; rows with fields that would be ignored are refused."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from models.corpus.fields import BadRecord, has_lone_surrogate, optional_text, require_text, shown
from models.corpus.numbers import number_in
from models.params.corpus import CorpusSet, RecordFormat
from models.schema import Check, Example, Message

# Names as data sets write them, all in snake case: what a prompt has besides its text, …
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
_OF_TURNS = f"{_OF_CHATS}|name"
_READ_OF_TURNS = frozenset({"role", "content", "from", "value"})
# What stands for nothing in exported tables.
_NOTHING = frozenset({"", "[]", "{}", "null", "none", "nan"})
# A field this like one that is read is a slip of the pen.
_LIKENESS = 0.88
_CURE = "Write its content into the prompt, or remove the field or the row."


def reject_ignored_fields(row: Mapping[str, Any], format: RecordFormat) -> None:
    """Refuse a row with a field that would be ignored, or whose name resembles one that its format reads.

    Raises:
        BadRecord: There is such a field.
    """
    read, lost = _FORMATS[format].fields, _FORMATS[format].lost
    for field, value in row.items():
        name = _snake(field)
        if field in read or not _is_given(value):
            continue
        if name not in read and re.fullmatch(lost, name):
            raise BadRecord(f"must not have the field `{field}`, which would be ignored", shown(value), _CURE)
        _refuse_weight(name, value, f"`{field}`")
        targets = [known for known in read if known != "id" and (known == name or known not in row)]
        if close := get_close_matches(name, targets, n=1, cutoff=_LIKENESS):
            raise BadRecord(f"must not have the field `{field}`", shown(value), f"Did you mean `{close[0]}`?")


def reject_ignored_turn_fields(turn: Mapping[str, Any], within: str, *, last: bool) -> None:
    """Refuse a turn with a field that would be ignored; in the last turn, the response, also a field that masks its loss.

    Raises:
        BadRecord: There is such a field.
    """
    for field, value in turn.items():
        name, place = _snake(field), f"`{within}.{field}`"
        lost = re.fullmatch(_OF_TURNS, name) or (name in _READ_OF_TURNS and field != name)
        if lost and _is_given(value):
            raise BadRecord(f"must not have the field {place}, which would be ignored", shown(value), _CURE)
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
        rule = f"must have a response that is trained with full weight, not with another in {place}"
        raise BadRecord(rule, shown(value), "Remove the row or the field.")


def _snake(field: object) -> str:
    """Return a field's name in snake case: `toolCalls`, `Tool-Calls` and `tool calls ` are `tool_calls`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-.]+", "_", str(field).strip()).lower()


def _is_given(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    return value is not None and value not in ([], {}, ()) and value is not False


Role = Literal["system", "user", "assistant"]
Parts = tuple[tuple[Message, ...], str | None, bool]
"""Prompt, response (None: there is only a prompt), and whether the response goes to its end."""

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


class LeftOut(Exception):
    """A well-formed record that the params exclude; `reason` is its key in the counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_row(row: object, cfg: CorpusSet, *, number: int) -> Example:
    """Convert a row to an example.

    Args:
        row: The parsed line.
        cfg: The data set.
        number: Row number, used as the id if the row has none.

    Raises:
        BadRecord: The row violates a rule of its format.
        LeftOut: The row is too short (`text`) or longer than `max_chars`.
    """
    if not isinstance(row, Mapping):
        hint = "Write one object a line instead of one array." if isinstance(row, list) else ""
        raise BadRecord("must be a JSON object", shown(row), hint)
    reject_ignored_fields(row, cfg.format)
    messages, response, ended = _FORMATS[cfg.format].parse(row, cfg)
    if cfg.max_chars is not None and sum(len(m.content) for m in messages) + len(response or "") > cfg.max_chars:
        raise LeftOut("too_long")
    # A prompt alone is checked where the row says what a correct response holds.
    check = "none" if response is None and not _has_reference(row) else cfg.check
    return Example(
        id=f"{cfg.name}/{_row_id(row, number)}",
        family=cfg.family or cfg.name,
        messages=messages,
        response=response,
        answer=None if check == "none" else reference_answer(row, response or "", check),
        check=check,
        seen_by=cfg.seen_by,
        ended=ended,
    )


def _has_reference(row: Mapping[str, Any]) -> bool:
    return bool(str(optional_text(row, "reference")).strip())


def reference_answer(row: Mapping[str, Any], response: str, check: Check) -> str:
    """Return what a correct response must contain.

    This is the field `reference` if there is one, else the response itself. For `number` it is the number in it, as
    `evaluate` extracts it from a model's response.

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


def _response(row: Mapping[str, Any], field: str, cfg: CorpusSet) -> str | None:
    """Return the response in `field`; None where it is missing or blank and the data set may have prompts alone."""
    given = bool(str(optional_text(row, field)).strip())
    if cfg.prompts_only and not given:
        return None
    try:
        return require_text(row, field)
    except BadRecord as bad:
        # A field that is not there more often is one of another format.
        raise BadRecord(bad.rule, bad.value, _PROMPTS_ONLY if field in row and not given else bad.hint) from bad


_PROMPTS_ONLY = "Where rows are meant to be prompts alone, set `prompts_only` of the data set."


def _alpaca(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    instruction, given = require_text(row, "instruction"), optional_text(row, "input")
    prompt = f"{instruction}\n{given}" if given.strip() else instruction
    return (*_system(row), *_history(row), Message("user", prompt)), _response(row, "output", cfg), True


def _history(row: Mapping[str, Any]) -> Iterator[Message]:
    pairs = row.get("history")
    if pairs is not None and not (isinstance(pairs, list) and all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs)):
        raise BadRecord("must have a list of pairs of texts (user, assistant) in `history`", shown(pairs))
    for i, pair in enumerate(pairs or ()):
        for role, said in zip(("user", "assistant"), pair, strict=True):
            yield Message(_ROLES[role], require_text({role: said}, role, within=f"history[{i}]"))


def _system(row: Mapping[str, Any]) -> tuple[Message, ...]:
    text = optional_text(row, "system")
    return (Message("system", text),) if text.strip() else ()


def _prompt(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    return (*_system(row), Message("user", require_text(row, "prompt"))), _response(row, "response", cfg), True


def _qa(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    context, question = optional_text(row, "context"), require_text(row, "question")
    parts = [*([context] if context.strip() else []), question, *_choices(row.get("choices"))]
    return (*_system(row), Message("user", "\n".join(parts))), _response(row, "answer", cfg), True


def _choices(given: object) -> list[str]:
    """Return a line for each choice: a list of texts (named A, B, …), {label: text}, or {"text": [...], "label": [...]}."""
    if given is None or given in ([], {}):
        return []
    labels: Sequence[object] = ()
    texts: object = given
    if isinstance(given, Mapping):
        labels, texts = list(given), list(given.values())
        if set(given) == {"text", "label"} and isinstance(given["label"], list):
            labels, texts = given["label"], given["text"]
    elif isinstance(given, list):
        labels = [chr(ord("A") + i) for i in range(len(given))]
    if not isinstance(texts, list) or len(texts) != len(labels) or not all(isinstance(t, str) for t in (*texts, *labels)):
        raise BadRecord("must have a list of texts, or labels with their texts, in `choices`", shown(given))
    if has_lone_surrogate(given):
        raise BadRecord("must have valid Unicode in `choices`", shown(given))
    return [f"{label}. {text}" for label, text in zip(labels, texts, strict=True)]


def _messages(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    field = "conversations" if "messages" not in row and "conversations" in row else "messages"
    turns = row.get(field)
    least = "one turn" if cfg.prompts_only else "two turns"
    if not isinstance(turns, Sequence) or isinstance(turns, str) or len(turns) < (1 if cfg.prompts_only else 2):
        raise BadRecord(f"must have at least {least} in `{field}`", shown(turns) if field in row else "missing")
    alone = cfg.prompts_only and _by_user(turns[-1])
    messages = tuple(_turn(t, f"{field}[{i}]", last=i == len(turns) - 1 and not alone) for i, t in enumerate(turns))
    if messages[-1].role != "assistant" and not alone:
        raise BadRecord("must end with a turn by the assistant", messages[-1].role, _PROMPTS_ONLY)
    if not alone and (len(messages) < 2 or messages[-2].role != "user"):
        raise BadRecord("must have a turn by the user before the last", messages[-2].role if len(messages) > 1 else "none")
    before = _system(row)
    if before and messages[0].role == "system":
        if messages[0] != before[0]:
            raise BadRecord("must have one system prompt", f"one in `system` and another in `{field}[0]`")
        before = ()
    if alone:
        return (*before, *messages), None, True
    return (*before, *messages[:-1]), messages[-1].content, True


def _by_user(turn: object) -> bool:
    return isinstance(turn, Mapping) and _ROLES.get(str(turn.get("role", turn.get("from")))) == "user"


def _turn(turn: object, within: str, *, last: bool) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRecord(f"must have an object in `{within}`", shown(turn))
    reject_ignored_turn_fields(turn, within, last=last)
    role_field, text_field = ("from", "value") if "role" not in turn and "from" in turn else ("role", "content")
    role = require_text(turn, role_field, within=within)
    if role not in _ROLES:
        raise BadRecord(f"must have one of {', '.join(_ROLES)} in `{within}.{role_field}`", role)
    return Message(_ROLES[role], require_text(turn, text_field, within=within))


def _text(row: Mapping[str, Any], cfg: CorpusSet) -> Parts:
    text = require_text(row, "text")
    prompt, rest = text[: cfg.prompt_chars], text[cfg.prompt_chars :].rstrip()
    response = _cut(rest, cfg.response_chars)
    if cfg.prompts_only and prompt.strip() and not response.strip():
        return (Message("user", prompt),), None, True
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


class _Format(NamedTuple):
    """How rows of a format are read: the parser, the fields it reads, and a pattern of names that it would lose."""

    parse: Callable[[Mapping[str, Any], CorpusSet], Parts]
    fields: frozenset[str]
    lost: str = _OF_CHATS


_FORMATS: Mapping[RecordFormat, _Format] = {
    "alpaca": _Format(_alpaca, frozenset({"id", "instruction", "input", "output", "system", "history", "reference"})),
    "messages": _Format(_messages, frozenset({"id", "messages", "conversations", "system", "reference"})),
    "prompt": _Format(_prompt, frozenset({"id", "prompt", "response", "system", "reference"})),
    "qa": _Format(
        _qa, frozenset({"id", "question", "answer", "context", "choices", "system", "reference"}), f"{_OF_CHATS}|{_CHOICE}"
    ),
    # A plain text is whole, whatever other fields the row has.
    "text": _Format(_text, frozenset({"id", "text", "reference"}), _ATTACHED),
}
