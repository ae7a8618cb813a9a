"""Parts of records that every published data set writes in the same way: texts, rows of a knowledge base, small files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.data.dialogue import MISSING
from models.data.json_array import open_text
from models.data.validate import BadRecord, shown
from models.errors import DataError, Problem


def plain(text: str) -> str:
    """Return a published text as the records have it: lower case, blanks for underscores, single blanks."""
    return " ".join(text.lower().replace("_", " ").split())


def attributes_of(row: object, *, within: str, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the attributes of a row of a knowledge base in its order; missing values are absent.

    Args:
        row: A mapping of names to texts or numbers.
        within: Which part of the record it is, for the message.
        leave_out: Names that are no attributes.

    Raises:
        BadRecord: The row is no mapping, or a value is neither text nor number.
    """
    if not isinstance(row, Mapping):
        raise BadRecord(f"must have a JSON object in `{within}`", shown(row))
    attributes = {}
    for name, value in row.items():
        if name in leave_out or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadRecord(f"must have text in `{within}.{name}`", shown(value))
        if (text := plain(str(value))) and text not in MISSING and str(value).lower().strip() not in MISSING:
            attributes[name.lower()] = text
    return attributes


def texts_of(record: Mapping[str, Any], field: str) -> list[str]:
    """Return the texts listed in `field`.

    Raises:
        BadRecord: There is no list of texts.
    """
    texts = record.get(field)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRecord(f"must have a list of texts in `{field}`", shown(texts))
    return texts


def load_json(path: Path) -> Any:
    """Return what a small JSON file holds (also `.gz`); lines before it that begin with `#` are dropped.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with open_text(path) as text:
            return json.loads("".join(line for line in text if not line.startswith("#")))
    except (OSError, EOFError, ValueError) as error:
        raise unreadable(path, "must be a JSON file", str(error)) from error


def unreadable(path: Path, rule: str, seen: str) -> DataError:
    """Return the error of a file that as a whole is not what it should be."""
    hint = "Fetch the file again, or check `dialogues.path` (relative to the project root)."
    return DataError("Dialogue data cannot be read", [Problem(str(path), rule, seen, hint)])
