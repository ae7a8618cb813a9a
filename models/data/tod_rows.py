"""Parts of records that every published data set writes in the same way: texts, rows of a knowledge base, small files."""

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from models.data.dialogue import MISSING
from models.data.file_kind import READ_ERRORS
from models.data.json_array import open_text
from models.data.validate import BadRecord, half_pair, shown
from models.errors import DataError, Problem


def plain(text: str) -> str:
    """Return a published text as the records have it: lower case, blanks for underscores, single blanks."""
    return " ".join(text.lower().replace("_", " ").split())


def cell_text(value: object) -> str:
    """Return a cell of a table as a value: text as `plain` gives it, `yes` or `no`, a number without exponent or idle fraction.

    `40.0` is `40`. Empty where the value is missing: null, NaN, an infinity, a word of `MISSING`.

    Raises:
        TypeError: The cell holds a list or an object.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else ""
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise TypeError(type(value).__name__)
    text = plain(str(value))
    return "" if unicodedata.normalize("NFKC", text) in MISSING else text


def given_values(value: object) -> list[Any]:
    """Return what a field holds, a value or a list of them, as values; missing ones are left out.

    What is no text or number (a list, an object, true or false) stays as it is, to be refused by name.
    """
    given = value if isinstance(value, list) else [value]
    kept = (v if isinstance(v, bool | list | Mapping) else cell_text(v) for v in given)
    return [v for v in kept if v != ""]


def _number(value: float) -> str:
    return format(Decimal(repr(value + 0.0)), "f").removesuffix(".0")


def attribute_name(name: str) -> str:
    """Return the name of a field as attributes have it: without blanks around it, case folded, in one Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def same_names(names: Iterable[str]) -> list[str]:
    """Return the names that another one of them becomes as well, in their order; where they are read, `_` is a blank."""
    read = {name: attribute_name(attribute_name(name).replace("_", " ")) for name in names}
    counts = Counter(read.values())
    return [name for name, text in read.items() if counts[text] > 1]


def attributes_of(row: object, *, within: str, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the attributes of a row of a knowledge base in its order; missing values are absent.

    Args:
        row: A mapping of names to texts or numbers.
        within: Which part of the record it is, for the message.
        leave_out: Names that are no attributes.

    Raises:
        BadRecord: The row is no mapping, two of its names are one, or a value is a list or an object.
    """
    if not isinstance(row, Mapping):
        raise BadRecord(f"must have a JSON object in `{within}`", shown(row))
    if half_pair(row):
        raise BadRecord(f"must have valid Unicode in `{within}`", "half a surrogate pair")
    if same := same_names(row):
        raise BadRecord(f"must have names of their own for the fields of `{within}`", ", ".join(map(repr, same)))
    attributes = {}
    for name, value in row.items():
        if name in leave_out:
            continue
        try:
            text = cell_text(value)
        except TypeError as error:
            raise BadRecord(f"must have text or a number in `{within}.{name}`", shown(value)) from error
        if text:
            attributes[attribute_name(name)] = text
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


def values_of(record: Mapping[str, Any], field: str) -> list[str]:
    """Return the values listed in `field` as texts; they may be numbers.

    Raises:
        BadRecord: There is no list of texts and numbers.
    """
    values = record.get(field)
    if not isinstance(values, list) or not all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values):
        raise BadRecord(f"must have a list of texts or numbers in `{field}`", shown(values))
    return [plain(value) if isinstance(value, str) else cell_text(value) for value in values]


def load_json(path: Path) -> Any:
    """Return what a small JSON file holds (also compressed); lines before it that begin with `#` are dropped.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with open_text(path) as text:
            content = json.loads("".join(line for line in text if not line.startswith("#")))
    except (*READ_ERRORS, RecursionError) as error:
        raise unreadable(path, "must be a JSON file", str(error)) from error
    if half_pair(content):
        raise unreadable(path, "must be valid Unicode", "a file with half a surrogate pair")
    return content


def unreadable(path: Path, rule: str, seen: str) -> DataError:
    """Return the error of a file that as a whole is not what it should be."""
    hint = "Fetch the file again, or check `dialogues.path` (relative to the project root)."
    return DataError("Dialogue data cannot be read", [Problem(str(path), rule, seen, hint)])
