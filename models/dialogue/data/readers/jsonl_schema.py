"""Schema of user-supplied dialogue data (`jsonl`): what a line must and may hold; all problems of a line are reported at once."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from models.corpus.fields import shown
from models.dialogue.data.readers.base import SPEAKERS, attribute_name, cell_text, given_values, join_speakers, plain, same_names
from models.dialogue.data.records import Entity, Turn, TurnKind
from models.errors import Problem

TURN_FIELDS = ("dialogue", "context", "response", "turn", "domain", "kind", "entities", "values", "kb", "dynamic")
# An unknown field this similar to a known one is taken for a typo; others are left alone.
_LIKENESS = 0.8
# Among more ids than this, the search for a similar one takes seconds per finding.
_MOST_COMPARED = 20_000
# Beyond this, floats cannot represent every whole number.
_EXACT = 2**53


class Fields(dict[str, Any]):
    """A JSON object with its repeated fields, of which a dict keeps only the last.

    Attributes:
        repeated: Their names.
    """

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = [] if len(self) == len(names) else [name for name in self if names.count(name) > 1]


@dataclass(slots=True)
class Findings:
    """The findings about one line."""

    where: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, rule: str, value: str = "", hint: str = "") -> None:
        self.problems.append(Problem(self.where, rule, value, hint))


@dataclass(frozen=True, slots=True)
class TurnContext:
    """Context that a turn is checked against.

    Attributes:
        domains: Entity id → its domain.
        condensed: Whether every turn must name its dialogue's own knowledge base.
    """

    domains: Mapping[str, str]
    condensed: bool

    def resolve(self, ids: object, name: str, found: Findings) -> tuple[str, ...]:
        """Return ids as texts; unknown ones become findings with the most similar known id as hint."""
        if not isinstance(ids, list) or not all(_is_id(id) for id in ids):
            found.add(f"must have a list of entity ids in `{name}`", _seen(ids))
            return ()
        texts = tuple(dict.fromkeys(map(_id_text, ids)))
        for unknown in (id for id in texts if id not in self.domains):
            found.add(f"must name entities of kb.jsonl in `{name}`", repr(unknown), _similar(unknown, self.domains))
        return texts


def _seen(value: object) -> str:
    return "missing" if value is None else shown(value)


def _similar(text: str, known: Collection[str]) -> str:
    close = get_close_matches(text, known, n=1) if len(known) <= _MOST_COMPARED else []
    return f"Did you mean `{close[0]}`?" if close else ""


def parse_entity(row: object, found: Findings) -> Entity | None:
    """Return the entity of a line of kb.jsonl, or None with the findings."""
    if not isinstance(row, Mapping):
        found.add("must be a JSON object", _seen(row))
        return None
    _repeated(row, found)
    if same := same_names(row):
        hint = "Blanks around a name and upper case do not count. Rename or remove one."
        found.add("must have fields of different names", ", ".join(map(repr, same)), hint)
    cells = {attribute_name(key): value for key, value in row.items()}
    if "" in cells:
        found.add("must have a name for each field", repr(""))
    if not _is_id(cells.get("id")):
        found.add("must have text or a whole number in `id`", _seen(cells.get("id")))
    attributes = {"name": _name(cells.get("name"), found)}
    for name in (key for key in cells if key not in ("", "id", "name", "domain")):
        if value := _cell(cells[name], name, found):
            attributes[name] = value
    domain = "entity" if _is_missing(cells.get("domain")) else _text(cells, "domain", found)
    return None if found.problems else Entity(_id_text(cells["id"]), domain, attributes)


def parse_turn(row: object, found: Findings, known: TurnContext) -> tuple[Turn, frozenset[str]] | None:
    """Return the turn of a line, and which optional fields it has; or None with the findings."""
    if not isinstance(row, Mapping):
        found.add("must be a JSON object", _seen(row))
        return None
    _repeated(row, found)
    _misspelt(row, found)
    if not _is_id(row.get("dialogue")):
        found.add("must have text or a whole number in `dialogue`", _seen(row.get("dialogue")))
    context = _context(row.get("context"), found)
    entities = known.resolve(row.get("entities", []), "entities", found)
    kb = known.resolve(row.get("kb", None if known.condensed else []), "kb", found)
    if known.condensed and kb and (outside := [id for id in entities if id not in kb]):
        found.add("must list all its `entities` in its `kb`", ", ".join(map(repr, outside)))
    number = _whole(row.get("turn", len(context) // 2))
    if number is None or number < 0:
        found.add("must have a whole number from 0 in `turn`", _seen(row.get("turn")))
        number = 0
    dialogue = _id_text(row.get("dialogue"))
    turn = Turn(
        id=f"{dialogue}#{number}",
        dialogue=dialogue,
        turn=number,
        domain=_domain(row, entities, known, found),
        kind=_kind(row, found),
        context=context,
        response=_text(row, "response", found),
        gold_values=_texts(row.get("values", []), "values", found),
        gold_entities=entities,
        kb=kb if known.condensed else (),
        dynamic=_dynamic(row.get("dynamic", {}), found),
    )
    return None if found.problems else (turn, frozenset(TURN_FIELDS).intersection(row))


def _repeated(row: Mapping[str, Any], found: Findings) -> None:
    if names := getattr(row, "repeated", []):
        found.add("must have each field once", ", ".join(f"`{name}` more than once" for name in names), "Remove all but one.")


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or _whole(value) is not None


def _id_text(value: object) -> str:
    number = _whole(value)
    return str(value).strip() if number is None else str(number)


def _whole(value: object) -> int | None:
    """Return a whole number, even where a table turned it into `1.0`; None for anything else."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _name(value: object, found: Findings) -> str:
    """Return the name of an entity; it may be a number, but not a word for a missing value."""
    text = "" if isinstance(value, bool | list | Mapping) else cell_text(value)
    if not text:
        found.add("must have text in `name`", _seen(value))
    return text


def _text(row: Mapping[str, Any], name: str, found: Findings) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        found.add(f"must have text in `{name}`", _seen(value))
        return ""
    return plain(value)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str | float) and not cell_text(value))


def _cell(value: object, name: str, found: Findings) -> str:
    try:
        return cell_text(value)
    except TypeError:
        found.add(f"must have text, a number, true, false or null in `{name}`", _seen(value))
        return ""


def _texts(values: object, name: str, found: Findings) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(_is_value(value) for value in values):
        found.add(f"must have a list of texts or numbers in `{name}`", _seen(values))
        return ()
    return tuple(given_values(values))


def _is_value(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _context(value: object, found: Findings) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        found.add("must have the utterances before the response in `context`", _seen(value))
        return ()
    said: list[tuple[str, str]] = []
    for place, item in enumerate(value):
        utterance = _utterance(item, said[-1][0] if said else "system")
        if utterance is None:
            hint = 'Write a text, or {"role": "user" or "assistant", "content": "…"}.'
            found.add(f"must have an utterance in `context[{place}]`", _seen(item), hint)
        said.append(utterance or (("user", "system")[place % 2], ""))
    if said[0][0] != "user":
        found.add("must have an utterance of the user in `context[0]`", f"one of the {said[0][0]}")
    elif said[-1][0] != "user":
        hint = "User and system take turns, the user first and last."
        found.add("must end with an utterance of the user in `context`", f"{len(value)} utterances", hint)
    return tuple(text for _, text in join_speakers(said))


def _utterance(item: object, before: str) -> tuple[str, str] | None:
    """Return who speaks (in a plain text: the other one than `before`) and what, or None if that is not an utterance."""
    speaker: str | None = "system" if before == "user" else "user"
    if isinstance(item, Mapping):
        speaker, item = SPEAKERS.get(str(item.get("role"))), item.get("content")
    text = plain(item) if isinstance(item, str) else ""
    return (speaker, text) if text and speaker else None


def _domain(row: Mapping[str, Any], entities: Sequence[str], known: TurnContext, found: Findings) -> str:
    if not _is_missing(row.get("domain")):
        return _text(row, "domain", found)
    candidates = {known.domains[id] for id in entities if id in known.domains} or set(known.domains.values())
    # An unknown entity is a finding already; its domain cannot be known.
    if len(candidates) > 1 and all(id in known.domains for id in entities):
        hint = "The knowledge base has several, and the turn's `entities` do not decide."
        found.add("must have text in `domain`", "missing", hint)
    return min(candidates, default="")


def _kind(row: Mapping[str, Any], found: Findings) -> TurnKind:
    kinds: dict[object, Literal["response", "api_call"]] = {"response": "response", "api_call": "api_call"}
    kind = row.get("kind", "response")
    if not isinstance(kind, str) or kind not in kinds:
        found.add("must have `response` or `api_call` in `kind`", _seen(kind))
        return "response"
    return kinds[kind]


def _dynamic(value: object, found: Findings) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        found.add("must have an object (name → text, number or list) in `dynamic`", _seen(value))
        return {}
    if same := same_names(value):
        found.add("must have distinct names in `dynamic`", ", ".join(map(repr, same)))
    given = {
        name: _texts([one for one in (v if isinstance(v, list) else [v]) if not _is_missing(one)], f"dynamic.{name}", found)
        for name, v in value.items()
    }
    return {name: values for name, values in given.items() if values}


def _misspelt(row: Mapping[str, Any], found: Findings) -> None:
    for name in (key for key in row if key not in TURN_FIELDS):
        if close := get_close_matches(name, [known for known in TURN_FIELDS if known not in row], n=1, cutoff=_LIKENESS):
            found.add(f"must not have the field `{name}`", "", f"Did you mean `{close[0]}`?")
