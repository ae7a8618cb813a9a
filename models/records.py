"""Frozen dataclasses from and to JSON rows, by pydantic: one reader and one writer for all records whose JSON is their fields."""

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

R = TypeVar("R")


def from_row(kind: type[R], row: object) -> R:
    """Build a record, such as `Turn`, from what JSON makes of it: lists become tuples, nested objects their records.

    Raises:
        ValueError: A field is missing, unknown or of another type; names it.
    """
    hashable: Any = kind
    adapter: TypeAdapter[R] = _adapter(hashable)
    try:
        return adapter.validate_python(row, extra="forbid")
    except ValidationError as err:
        found = err.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"]))
        raise ValueError(f"`{where}`: {found['msg']}" if where else found["msg"]) from err


def to_row(record: object) -> dict[str, Any]:
    """Return a record as `json.dumps` takes it, fields in their order: what `asdict` gives, several times as fast."""
    kind: Any = type(record)
    row: dict[str, Any] = _adapter(kind).dump_python(record, warnings=False)
    return row


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
