"""Records of dialogue data of one's own: what a line must and may hold (`tod_jsonl`), and every finding about a line at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from models.data.dialogue import MISSING, Entity, Turn, TurnKind
from models.data.tod_rows import plain
from models.data.validate import shown
from models.errors import Problem

TURN_FIELDS = ("dialogue", "context", "response", "turn", "domain", "kind", "entities", "values", "kb", "dynamic")
_SPEAKERS = {"user": "user", "assistant": "system", "system": "system"}
# An unknown field this like a known one is a slip of the pen; others are the author's own and left alone.
_LIKENESS = 0.8
# Looking for a similar id among more takes seconds for each finding.
_MOST_COMPARED = 20_000


@dataclass(slots=True)
class Findings:
    """The findings about one line."""

    where: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, rule: str, value: str = "", hint: str = "") -> None:
        """Record a finding."""
        self.problems.append(Problem(self.where, rule, value, hint))


@dataclass(frozen=True, slots=True)
class Known:
    """What a turn is checked against.

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
        texts = tuple(dict.fromkeys(str(id) for id in ids))
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
    if not _is_id(row.get("id")):
        found.add("must have text or a whole number in `id`", _seen(row.get("id")))
    attributes = {"name": _text(row, "name", found)}
    for name in (key for key in row if key not in ("id", "name", "domain")):
        if (value := _cell(row[name], name, found)) not in MISSING:
            attributes[name.strip().lower()] = value
    domain = _optional_text(row, "domain", "entity", found)
    return None if found.problems else Entity(str(row["id"]), domain, attributes)


def parse_turn(row: object, found: Findings, known: Known) -> tuple[Turn, frozenset[str]] | None:
    """Return the turn of a line, and which optional fields it has; or None with the findings."""
    if not isinstance(row, Mapping):
        found.add("must be a JSON object", _seen(row))
        return None
    _misspelt(row, found)
    if not _is_id(row.get("dialogue")):
        found.add("must have text or a whole number in `dialogue`", _seen(row.get("dialogue")))
    context = _context(row.get("context"), found)
    entities = known.resolve(row.get("entities", []), "entities", found)
    kb = known.resolve(row.get("kb", None if known.condensed else []), "kb", found)
    if known.condensed and kb and (outside := [id for id in entities if id not in kb]):
        found.add("must have its `entities` among its `kb`", ", ".join(map(repr, outside)))
    number = row.get("turn", len(context) // 2)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        found.add("must have a whole number from 0 in `turn`", _seen(number))
    turn = Turn(
        id=f"{row.get('dialogue')}#{number}",
        dialogue=str(row.get("dialogue")),
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


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or (isinstance(value, int) and not isinstance(value, bool))


def _text(row: Mapping[str, Any], name: str, found: Findings) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        found.add(f"must have text in `{name}`", _seen(value))
        return ""
    return plain(value)


def _optional_text(row: Mapping[str, Any], name: str, default: str, found: Findings) -> str:
    return _text(row, name, found) if row.get(name) is not None else default


def _cell(value: object, name: str, found: Findings) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is not None and not isinstance(value, str | int | float):
        found.add(f"must have text, a number, true, false or null in `{name}`", _seen(value))
    return "" if value is None else plain(str(value))


def _texts(values: object, name: str, found: Findings) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        found.add(f"must have a list of texts in `{name}`", _seen(values))
        return ()
    return tuple(plain(value) for value in values)


def _context(value: object, found: Findings) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        found.add("must have the utterances before the response in `context`", _seen(value))
        return ()
    said = [_utterance(item, place) for place, item in enumerate(value)]
    for place, (speaker, text) in enumerate(said):
        expected = ("user", "system")[place % 2]
        if text is None:
            hint = 'Write a text, or {"role": "user" or "assistant", "content": "…"}.'
            found.add(f"must have an utterance in `context[{place}]`", _seen(value[place]), hint)
        elif speaker != expected:
            found.add(f"must have an utterance of the {expected} in `context[{place}]`", f"one of the {speaker}")
    if len(value) % 2 == 0:
        hint = "User and system take turns, the user first and last."
        found.add("must end with an utterance of the user in `context`", f"{len(value)} utterances", hint)
    return tuple(text or "" for _, text in said)


def _utterance(item: object, place: int) -> tuple[str, str | None]:
    """Return who speaks (in a plain text: whoever's turn it is) and what, None if that is no utterance."""
    speaker: object = ("user", "system")[place % 2]
    if isinstance(item, Mapping):
        speaker, item = _SPEAKERS.get(str(item.get("role"))), item.get("content")
    text = plain(item) if isinstance(item, str) else ""
    return str(speaker), text if text and speaker else None


def _domain(row: Mapping[str, Any], entities: Sequence[str], known: Known, found: Findings) -> str:
    if row.get("domain") is not None:
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
        found.add("must have an object (name → text or list of texts) in `dynamic`", _seen(value))
        return {}
    return {str(name): _texts(v if isinstance(v, list) else [v], f"dynamic.{name}", found) for name, v in value.items()}


def _misspelt(row: Mapping[str, Any], found: Findings) -> None:
    for name in (key for key in row if key not in TURN_FIELDS):
        if close := get_close_matches(name, [known for known in TURN_FIELDS if known not in row], n=1, cutoff=_LIKENESS):
            found.add(f"must not have the field `{name}`", "", f"Did you mean `{close[0]}`?")
