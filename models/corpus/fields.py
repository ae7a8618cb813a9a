"""Checks of single fields of a record; a failed check raises `BadRecord`, which the reader turns into a `Problem`."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import Problem

_MISSING = object()
_HALF = re.compile(r"[\ud800-\udfff]")


class BadRecord(Exception):
    """A record breaks a rule: `rule` says which, `value` what was seen."""

    def __init__(self, rule: str, value: str = "", hint: str = "") -> None:
        """Keep the parts of the later `Problem`."""
        super().__init__(rule)
        self.rule, self.value, self.hint = rule, value, hint

    def at(self, where: str) -> Problem:
        """Return the finding with its place."""
        return Problem(where, self.rule, self.value, self.hint)


def require_object(value: object) -> Mapping[str, Any]:
    """Return a record that is a JSON object of valid text.

    Raises:
        BadRecord: It is something else, or a text in it holds half a surrogate pair.
    """
    if not isinstance(value, Mapping):
        raise BadRecord("must be a JSON object", shown(value))
    if half_pair(value):
        raise BadRecord("must be valid Unicode", "a record with half a surrogate pair")
    return value


def require_text(row: Mapping[str, Any], field: str, *, within: str = "") -> str:
    """Return the non-empty text of `field`; `within` names the part of the record that `row` is, such as ``messages[1]``.

    Raises:
        BadRecord: The field is missing, not text, blank, or holds half a surrogate pair.
    """
    text = optional_text(row, field, within=within, default=_MISSING)
    if text is _MISSING:
        raise BadRecord(f"must have the field `{_place(within, field)}`", f"{{{', '.join(map(str, row))}}}" if row else "{}")
    if not text.strip():
        raise BadRecord(f"must have text in `{_place(within, field)}`", repr(text))
    return str(text)


def optional_text(row: Mapping[str, Any], field: str, *, within: str = "", default: Any = "") -> Any:
    """Return the text of `field`, or `default` where it is missing or null.

    Raises:
        BadRecord: The field is not text, or holds half a surrogate pair.
    """
    value = row.get(field)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadRecord(f"must have text in `{_place(within, field)}`", shown(value))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        rule = f"must have valid Unicode in `{_place(within, field)}`"
        raise BadRecord(rule, f"half a surrogate pair at character {error.start}") from error
    return value


def half_pair(value: object) -> bool:
    """Say whether any text in a JSON value holds half a surrogate pair, which is valid JSON, but can be written nowhere."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if _HALF.search(item):
                return True
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
    return False


def shown(value: Any, *, most: int = 60) -> str:
    """Return a value for a message: its type and its beginning."""
    try:
        text = repr(value)
    except RecursionError:
        text = "nested too deeply"
    return f"{type(value).__name__} {text if len(text) <= most else text[:most] + '…'}"


def _place(within: str, field: str) -> str:
    return f"{within}.{field}" if within else field
