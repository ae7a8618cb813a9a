"""MultiWOZ's venues as one knowledge base, and detection of venues in utterances without annotation."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.corpus.fields import shown
from models.corpus.text import PUBLISHED
from models.dialogue.data.readers.base import load_json, plain, unreadable
from models.dialogue.data.records import MISSING, Entity
from models.dialogue.data.value_finder import ValueFinder
from models.errors import DataError, Problem

ATTRIBUTES = (
    "name",
    "type",
    "address",
    "area",
    "food",
    "phone",
    "postcode",
    "pricerange",
    "stars",
    "entrance_fee",
    "internet",
    "parking",
)
_DOMAINS = ("attraction", "hotel", "restaurant")
# The database of hospitals lists departments only; the hospital itself is a constant of MultiWOZ's dialogues.
_HOSPITAL = {
    "name": "addenbrookes hospital",
    "type": "hospital",
    "address": "hills rd , cambridge",
    "phone": "01223245151",
    "postcode": "cb20qq",
}


def knowledge_base(db: Path, spellings: Mapping[str, str]) -> list[Entity]:
    """Return the venues, attractions first, in each domain by name without blanks; ids `mwoz-<number>` count from 0.

    Args:
        db: Folder of MultiWOZ's `<domain>_db.json` files.
        spellings: Name → address as the dialogues spell it (with blanks around punctuation), where known.

    Raises:
        DataError: A file is missing or damaged, or a venue has no name.
    """
    rows = [(domain, row) for domain in _DOMAINS for row in _venues(db / f"{domain}_db.json", spellings)]
    rows.append(("hospital", _HOSPITAL))
    return [Entity(f"mwoz-{number}", domain, row) for number, (domain, row) in enumerate(rows)]


def _venues(path: Path, spellings: Mapping[str, str]) -> list[dict[str, str]]:
    rows = load_json(path)
    if not isinstance(rows, list):
        raise unreadable(path, "must be a JSON array", shown(rows))
    if bad := list(_nameless(path, rows)):
        raise DataError("MultiWOZ's database has rows without a name", bad)
    return sorted((_attributes(row, spellings) for row in rows), key=lambda row: PUBLISHED.without_blanks(row["name"]))


def _nameless(path: Path, rows: Iterable[Any]) -> Iterable[Problem]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            yield Problem(f"{path}:{number}", "must be an object with a `name`", shown(row))


def _attributes(row: Mapping[str, Any], spellings: Mapping[str, str]) -> dict[str, str]:
    found = {plain(key): plain(str(value)) for key, value in row.items()}
    values = {name: found.get(plain(name), "") for name in ATTRIBUTES}
    values["name"] = plain(values["name"].replace("'", " ' "))
    values["address"] = spellings.get(values["name"], values["address"])
    if values["stars"] not in MISSING:
        values["stars"] += " star"
    return {name: value for name, value in values.items() if value not in MISSING}


# Ends of names that speakers leave out.
_TAILS = ("guest house", "hotel", "restaurant", "bed and breakfast", "b and b", "city centre", "cambridge", "and bar")
# A shorter rest is too common a word: `ask` for the ask restaurant.
_SHORTEST = 5
# The nightclub "the place" without its "the" occurs in every other address and sentence.
_WORDS = frozenset({"place"})
_VALUES = ("address", "area", "food", "phone", "postcode", "pricerange", "stars", "entrance_fee")
_NAMED_REFERENCE = re.compile(r"\breference (?:number )?(?:is )?(?:: )?([a-z0-9]{8})(?= |$)")
_MIXED_REFERENCE = re.compile(r"(?<![a-z0-9:])(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]{8}(?![a-z0-9:])")
_OFFER = r"(?:there are|there is|found|have about|have)(?: only)? ({})(?= |$)"


class VenueNames:
    """Finds the venues that a text names, also by a shortened name; only venues of the dialogue's domain are considered.

    Attributes:
        entities: The venues, in the knowledge base's order.
    """

    def __init__(self, entities: Sequence[Entity]) -> None:
        """Index the names by domain."""
        self.entities = entities
        self._finders: dict[str, ValueFinder] = {}
        # Full names first: another venue's shortened name does not override them.
        forms = sorted((i > 0, n, form) for n, e in enumerate(entities) for i, form in enumerate(names_of(e.name)))
        for _, number, form in forms:
            self._finders.setdefault(entities[number].domain, ValueFinder()).add(form, number)

    def named(self, text: str, *, domain: str) -> tuple[Entity, ...]:
        """Return the venues that a text names, in the knowledge base's order."""
        finder = self._finders.get(domain)
        numbers = {number for *_, number in finder.longest_spans(to_british_spelling(text))} if finder else set()
        return tuple(self.entities[number] for number in sorted(numbers))


def names_of(name: str) -> list[str]:
    """Return a normalised name and its shorter forms."""
    full = PUBLISHED.normalise(name)
    joined = PUBLISHED.normalise(name.replace(" ' s", "s").replace("'", ""))
    forms = [full, joined, full.replace("guesthouse", "guest house"), full.removeprefix("the ")]
    forms += [full[: -len(tail) - 1] for tail in _TAILS if full.endswith(f" {tail}")]
    return [form for form in dict.fromkeys(forms) if form == full or (len(form) >= _SHORTEST and form not in _WORDS)]


def gold_values(response: str, entities: Iterable[Entity], *, domain: str) -> tuple[str, ...]:
    """Return the mentions of a dialogue's venues in a response: names, values (longest first), reference numbers."""
    own = [entity for entity in entities if entity.domain == domain]
    full_names_first = sorted((place > 0, n, form) for n, e in enumerate(own) for place, form in enumerate(names_of(e.name)))
    found, text = _take([(form, own[n].name) for _, n, form in full_names_first], to_british_spelling(response))
    names = [entity.name for entity in own if entity.name in found]
    cells = [value for e in own for attribute, value in e.attributes.items() if attribute in _VALUES]
    values, _ = _take([(PUBLISHED.normalise(value), value) for value in cells], text)
    return (*names, *sorted(values, key=lambda value: -len(PUBLISHED.normalise(value))), *references(response))


def references(text: str) -> tuple[str, ...]:
    """Return the booking references (eight letters and digits) of a text, in order."""
    words = PUBLISHED.normalise(text)
    matches = [*_NAMED_REFERENCE.finditer(words), *_MIXED_REFERENCE.finditer(words)]
    return tuple(dict.fromkeys(m.group(m.lastindex or 0) for m in sorted(matches, key=lambda m: m.end())))


class ChoicePattern:
    """Finds how many options a system offers (`there are several`), as CDNet writes it into its rows."""

    def __init__(self, choices: Collection[str]) -> None:
        """Take the published values of `choice`."""
        longest_first = sorted(map(PUBLISHED.normalise, choices), key=lambda value: (-len(value), value))
        self._pattern = re.compile(_OFFER.format("|".join(map(re.escape, longest_first)))) if longest_first else None

    def first(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return the first number of options that the texts offer, or nothing."""
        for text in texts:
            if self._pattern and (match := self._pattern.search(PUBLISHED.normalise(text))):
                return (match.group(1),)
        return ()


def to_british_spelling(text: str) -> str:
    """Return a normalised text that spells `centre` as the venues do; the name of the help desk is not an area."""
    return f" {PUBLISHED.normalise(text)} ".replace(" center ", " centre ").replace(" towninfo centre ", " towninfo ").strip()


def _take(pairs: Iterable[tuple[str, str]], text: str) -> tuple[list[str], str]:
    """Return the values whose form is in the text (longest spans, in the order of `pairs`) and the text without them."""
    finder = ValueFinder()
    values: list[str] = []
    for form, value in pairs:
        if form and form not in finder:
            finder.add(form, len(values))
            values.append(value)
    words, found = text.split(), set()
    for start, end, number in finder.longest_spans(text):
        found.add(number)
        words[start:end] = ["#"] * (end - start)
    return list(dict.fromkeys(values[number] for number in sorted(found))), " ".join(words)
