"""What every params section is: frozen, closed, described."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
"""What becomes part of a path, a metric or a run's name: it cannot leave its folder."""


class Section(BaseModel):
    """A frozen group of parameters; unknown keys are errors; every field carries a description (the documentation)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that stand there twice, sorted; `Owl` and `owl` are one, as they are one file in some file systems."""
    seen: dict[str, list[str]] = {}
    for name in names:
        seen.setdefault(name.casefold(), []).append(name)
    return sorted({name for group in seen.values() if len(group) > 1 for name in group})
