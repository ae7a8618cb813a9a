"""Schema of the params keys, for documentation and for suggestions in errors."""

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from models.params.base import Section
from models.params.root import Params

_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", date: "date"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
ANY_NAME = "<name>"
"""Placeholder in a key for a name that the user chooses."""


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One key of the parameters.

    Attributes:
        key: Full key with `[]` for list entries and `<name>` for user-chosen names: `fusion.schedules.<name>[].lr`.
        type: In plain words.
        default: As it would be written in YAML; empty if the key must be given.
        constraints: In plain words; empty if none.
        description: From the field.
    """

    key: str
    type: str
    default: str
    constraints: str
    description: str

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class SectionDoc:
    """A group of keys: its key (empty at the top), what it is, its own fields, in the order of definition."""

    key: str
    description: str
    fields: tuple[FieldDoc, ...]


def child_section(annotation: object) -> tuple[type[Section] | None, str]:
    """The section class inside an annotation, and what comes between key and section: `[]` in a list, `.<name>` in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, ""
    origin = get_origin(annotation)
    outer = "[]" if origin is tuple else f".{ANY_NAME}" if origin is dict else ""
    for inner in get_args(annotation):
        section, below = child_section(inner)
        if section is not None:
            return section, outer + below
    return None, ""


def is_plain_section(annotation: object) -> bool:
    """Whether the annotation is a section itself (not a list of them, not optional): always a heading."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def type_text(annotation: Any) -> str:
    """An annotation in plain words: `whole number or null`, `list of texts`, `` `a` | `b` ``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Literal:
        return " | ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join([*(type_text(a) for a in inner if a is not NoneType), *(["null"] if NoneType in inner else [])])
    if origin is tuple:
        entry = type_text(inner[0]) if get_origin(inner[0]) is Literal else _PLURALS.get(inner[0], "mappings")
        return f"list of {entry}"
    if origin is dict:
        values = "lists of mappings" if get_origin(inner[1]) is tuple else _PLURALS[inner[1]]
        return f"mapping of {_PLURALS[inner[0]]} to {values}"
    return "mapping"


def constraint_text(field: FieldInfo) -> str:
    """Bounds, lengths and patterns of a field in plain words."""
    words = []
    for rule in field.metadata:
        match rule:
            case annotated_types.Gt(gt=bound):
                words.append(f"> {bound}")
            case annotated_types.Ge(ge=bound):
                words.append(f"≥ {bound}")
            case annotated_types.Lt(lt=bound):
                words.append(f"< {bound}")
            case annotated_types.Le(le=bound):
                words.append(f"≤ {bound}")
            case annotated_types.MinLen(min_length=length):
                words.append(f"at least {length} entries" if length > 1 else "not empty")
            case _ if pattern := getattr(rule, "pattern", None):
                words.append(f"matches `{pattern}`")
    return ", ".join(words)


def default_text(field: FieldInfo) -> str:
    """The default as YAML would write it; empty if there is none."""
    if field.is_required():
        return ""
    return value_text(field.get_default(call_default_factory=True, validated_data={}))


def value_text(value: object) -> str:
    """A value of the parameters in the form of YAML's flow style (JSON)."""
    if isinstance(value, Section):
        return value_text(value.model_dump(mode="json"))
    if value is PydanticUndefined:
        return ""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return "[" + ", ".join(value_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {value_text(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def iter_sections(section: type[Section] = Params, key: str = "") -> Iterator[SectionDoc]:
    """All sections below `section`, parents first, in the order of definition."""
    prefix = f"{key}." if key else ""
    fields, below = [], []
    for name, field in section.model_fields.items():
        child, between = child_section(field.annotation)
        if child is not None:
            below.append((child, f"{prefix}{name}{between}"))
        if not is_plain_section(field.annotation):
            shape = type_text(field.annotation)
            fields.append(
                FieldDoc(f"{prefix}{name}", shape, default_text(field), constraint_text(field), field.description or "")
            )
    yield SectionDoc(key, inspect.getdoc(section) or "", tuple(fields))
    for child, child_key in below:
        yield from iter_sections(child, child_key)


@cache
def all_keys() -> tuple[str, ...]:
    """Every key, sections included, with `[]` for list entries."""
    sections = list(iter_sections())
    return tuple(s.key for s in sections if s.key) + tuple(f.key for s in sections for f in s.fields)


@cache
def keys_below(section_key: str) -> tuple[str, ...]:
    """Names allowed directly in a section (`sources.models[]`); empty if it is not a section."""
    prefix = f"{section_key}." if section_key else ""
    names = (key[len(prefix) :].removesuffix("[]") for key in all_keys() if key.startswith(prefix) and key != prefix)
    return tuple(dict.fromkeys(name for name in names if name and "." not in name))
