"""Reading files of one JSON record a line, with errors that name the line."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from models.errors import ArtifactError

_Record = TypeVar("_Record")


def read_json_lines(path: Path, build: Callable[[Mapping[str, Any]], _Record], *, what: str) -> Iterator[_Record]:
    """Yield `build(row)` of every line.

    Raises:
        ArtifactError: A line cannot be built; names file, line and reason.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_json_line(line, build, what=what, path=path, number=number)


def parse_json_line(line: bytes, build: Callable[[Mapping[str, Any]], _Record], *, what: str, path: Path, number: int) -> _Record:
    """Return `build(row)` of one line.

    Raises:
        ArtifactError: It cannot be built; names file, line and reason.
    """
    try:
        return build(json.loads(line.decode()))
    except (KeyError, TypeError, ValueError) as err:
        raise ArtifactError(f"`{path}` line {number} is no {what} ({err!r}). Run the stage that wrote it again.") from err
