"""Validation of single fields of a record; a violation raises `BadRecord`, which the reader turns into a `Problem`."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import Problem

_MISSING = object()
_HALF = re.compile(r"[\ud800-\udfff]")


class BadRecord(Exception):
    """A record violates `rule` by `value`."""

    def __init__(self, rule: str, value: str = "", hint: str = "") -> None:
        """Store the parts of the later `Problem`."""
        super().__init__(rule)
        self.rule, self.value, self.hint = rule, value, hint

    def at(self, where: str) -> Problem:
        """Return the violation as a `Problem` at `where`."""
        return Problem(where, self.rule, self.value, self.hint)


def require_object(value: object) -> Mapping[str, Any]:
    """Return a record that is a JSON object of valid text.

    Raises:
        BadRecord: It is something else, or a text in it has a lone surrogate.
    """
    if not isinstance(value, Mapping):
        raise BadRecord("must be a JSON object", shown(value))
    if has_lone_surrogate(value):
        raise BadRecord("must be valid Unicode", "a record with a lone surrogate")
    return value


def require_text(row: Mapping[str, Any], field: str, *, within: str = "") -> str:
    """Return the non-empty text of `field`; `within` names the part of the record that `row` is, such as ``messages[1]``.

    Raises:
        BadRecord: The field is missing, not text, blank, or has a lone surrogate.
    """
    text = optional_text(row, field, within=within, default=_MISSING)
    if text is _MISSING:
        raise BadRecord(f"must have the field `{_place(within, field)}`", f"{{{', '.join(map(str, row))}}}" if row else "{}")
    if not text.strip():
        raise BadRecord(f"must have text in `{_place(within, field)}`", repr(text))
    return str(text)


def optional_text(row: Mapping[str, Any], field: str, *, within: str = "", default: Any = "") -> Any:
    """Return the text of `field`, or `default` if it is missing or null.

    Raises:
        BadRecord: The field is not text, or has a lone surrogate.
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
        raise BadRecord(rule, f"a lone surrogate at character {error.start}") from error
    return value


def has_lone_surrogate(value: object) -> bool:
    """Return whether any text in a JSON value has a lone surrogate, which is valid JSON but cannot be encoded."""
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
    """Return a value's type and the beginning of its `repr`, for error messages."""
    try:
        text = repr(value)
    except RecursionError:
        text = "nested too deeply"
    return f"{type(value).__name__} {text if len(text) <= most else text[:most] + '…'}"


def _place(within: str, field: str) -> str:
    return f"{within}.{field}" if within else field
