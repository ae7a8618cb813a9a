"""MultiWOZ's venues as one knowledge base: 110 restaurants, 33 hotels, 79 attractions and the hospital."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.data.dialogue import MISSING, Entity
from models.data.text import PUBLISHED
from models.data.tod_rows import load_json, plain, unreadable
from models.data.validate import shown
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
    return sorted((_attributes(row, spellings) for row in rows), key=lambda row: PUBLISHED.squeeze(row["name"]))


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
