"""Base classes and types of the params sections: frozen, without unknown keys, with descriptions."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

_HALF_PAIR = re.compile("[\ud800-\udfff]")
MAX_SEED = 2**32 - 1
"""NumPy's global generator, which transformers seeds too, takes 32 bits."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
"""What becomes part of a path, a metric or a run's name: it cannot leave its folder."""


class _IsPlace:
    """Mark of a field that may hold a path."""


Place = Annotated[str, _IsPlace()]
"""A file or folder, relative to the project root or absolute (some fields also take other names): what it holds counts."""


class Section(BaseModel):
    """A frozen group of parameters; unknown keys are errors; every field carries a description (the documentation)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_disguise(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is wanted (pydantic would read 1 and 0), and text that can be written nowhere."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        items = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict) and get_origin(annotation) is dict:
            items = [*value.values(), *(key for key in value if isinstance(key, str))]
        number = next((kind for kind in (int, float) if _mentions(annotation, kind)), None)
        if number and not _mentions(annotation, bool) and any(isinstance(item, bool) for item in items):
            raise PydanticKnownError("int_type" if number is int else "float_type")
        if any(isinstance(item, str) and _HALF_PAIR.search(item) for item in items):
            raise PydanticCustomError("has_lone_surrogate", "half a surrogate pair")
        return value


def with_places(section: Section, content: Callable[[str], str]) -> dict[str, Any]:
    """Return the values of a section, JSON-ready, with `content` of it in the stead of every `Place` that is not empty."""
    replaced: dict[str, Any] = _replaced(section, section.model_dump(mode="json"), content)
    return replaced


def _replaced(value: object, dumped: Any, content: Callable[[str], str]) -> Any:
    if isinstance(value, Section):
        fields = type(value).model_fields
        return {
            name: content(row)
            if row and any(isinstance(mark, _IsPlace) for mark in fields[name].metadata)
            else _replaced(getattr(value, name), row, content)
            for name, row in dumped.items()
        }
    if isinstance(value, list | tuple):
        return [_replaced(inner, row, content) for inner, row in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), dumped.items(), strict=True)
        return {name: _replaced(inner, row, content) for inner, (name, row) in pairs}
    return dumped


def _mentions(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_mentions(inner, wanted) for inner in get_args(annotation))


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur twice, sorted; `Owl` and `owl` are one, as they are one file in some file systems."""
    seen: dict[str, list[str]] = {}
    for name in names:
        seen.setdefault(name.casefold(), []).append(name)
    return sorted({name for group in seen.values() if len(group) > 1 for name in group})
