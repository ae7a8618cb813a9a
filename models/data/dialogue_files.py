"""The files of the dialogue data: one record a line, streamed."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.data.corpus import write_json_lines
from models.data.dialogue import Entity, Turn
from models.data.json_lines import read_json_lines

KB, VALUES, STATS = "kb.jsonl", "values.json", "stats.json"


def write_turns(path: Path, turns: Iterable[Turn]) -> int:
    """Write turns, one a line; return their number."""
    return write_json_lines(path, (turn.to_json() for turn in turns))


def read_turns(path: Path) -> Iterator[Turn]:
    """Yield the turns of a file.

    Raises:
        ArtifactError: A line is no turn; names file and line.
    """
    return read_json_lines(path, Turn.from_json, what="turn")


def write_kb(path: Path, entities: Iterable[Entity]) -> int:
    """Write entities, one a line; return their number."""
    return write_json_lines(path, (entity.to_json() for entity in entities))


def read_kb(path: Path) -> Iterator[Entity]:
    """Yield the entities of a file.

    Raises:
        ArtifactError: A line is no entity; names file and line.
    """
    return read_json_lines(path, Entity.from_json, what="entity")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def splits_of(data: Path) -> dict[str, Path]:
    """Return the turn files of a dialogue artifact by split."""
    return {split: data / f"{split}.jsonl" for split in ("train", "valid", "test")}
