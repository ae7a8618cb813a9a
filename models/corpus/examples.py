"""Examples and responses as JSON lines, with a file of line offsets for random access to slices."""

import functools
import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ArtifactError, DataError, Problem
from models.files import replacing
from models.records import from_row
from models.schema import Example, Response

OFFSETS_SUFFIX = ".offsets"
ANSWERS = "answers.jsonl"
"""What is known of prompts apart from their rows: {id, answer, check}, for oracles alone."""
_BLOCK = 1 << 20


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows` as JSON lines with their offsets, atomically; return their number."""
    count, position = 0, 0
    with (
        # The rows are renamed first: an offsets file that does not match its rows is recognised by the size at its end.
        replacing(offsets_path(path)) as part_offsets,
        part_offsets.open("wb") as offsets,
        replacing(path) as part,
        part.open("wb") as lines,
    ):
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            offsets.write(position.to_bytes(8, "little"))
            lines.write(line)
            count, position = count + 1, position + len(line)
        offsets.write(position.to_bytes(8, "little"))
    return count


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write `examples` as JSON lines, atomically; return their number."""
    return write_json_lines(path, (example.to_json() for example in examples))


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file written by `write_json_lines`.

    Raises:
        ArtifactError: The file is missing.
        DataError: A line is not a JSON object (naming file and line).
    """
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            yield _parse(line, where=f"{path}:{number}")


def read_examples(path: Path) -> Iterator[Example]:
    """Yield the examples of a file in order, one at a time. Raises as `read_json_lines`."""
    return (from_row(Example, row) for row in read_json_lines(path))


def read_slice(path: Path, start: int, stop: int) -> list[Example]:
    """Return rows `start` to `stop` (exclusive, clipped to the file), reading only their bytes."""
    offsets = row_offsets(path)
    start, stop = max(start, 0), min(stop, len(offsets) - 1)
    if start >= stop:
        return []
    with _open(path) as lines:
        lines.seek(int(offsets[start]))
        block = lines.read(int(offsets[stop] - offsets[start]))
    rows = block.split(b"\n")[: stop - start]
    return [from_row(Example, _parse(row, where=f"{path}:{start + i + 1}")) for i, row in enumerate(rows)]


def count_examples(path: Path) -> int:
    """Return the number of rows of a file."""
    return len(row_offsets(path)) - 1


def offsets_path(path: Path) -> Path:
    """Return where the line offsets of `path` are kept."""
    return path.with_name(path.name + OFFSETS_SUFFIX)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist. Run the stage `prepare` first.")
    return path.open("rb")


def _parse(line: bytes, *, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError("A corpus file is damaged", [Problem(where, "must be one JSON object", str(error))]) from error
    if not isinstance(row, dict):
        raise DataError("A corpus file is damaged", [Problem(where, "must be one JSON object", type(row).__name__)])
    return row


def row_offsets(path: Path) -> npt.NDArray[np.uint64]:
    """Return the start of every row, then the file's size: memory-mapped from the offsets file, else by one pass over the rows.

    Raises:
        ArtifactError: The file is missing.
    """
    with _open(path):
        size = path.stat().st_size
    offsets = offsets_path(path)
    if offsets.is_file() and offsets.stat().st_size >= 8:
        stored = np.memmap(offsets, dtype="<u8", mode="r")
        if int(stored[-1]) == size:
            return stored
    return _scan_offsets(path, size, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _scan_offsets(path: Path, size: int, _mtime_ns: int) -> npt.NDArray[np.uint64]:
    starts = [np.zeros(1, dtype=np.uint64)]
    position, block = 0, b""
    with path.open("rb") as lines:
        while block := lines.read(_BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 0x0A).astype(np.uint64)
            starts.append(ends + np.uint64(position + 1))
            position += len(block)
    offsets = np.concatenate(starts)
    return offsets if int(offsets[-1]) == size else np.append(offsets, np.uint64(size))


NAME = "responses.jsonl"


def write_responses(folder: Path, responses: Iterable[Response]) -> None:
    """Write responses as JSON lines into `folder`."""
    with (folder / NAME).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in responses)


def read_responses(folder: Path) -> list[Response]:
    """Read the responses of the shard in `folder`."""
    with (folder / NAME).open(encoding="utf-8") as file:
        return [Response(**json.loads(line)) for line in file]


def answers_by_prompt(folders: Iterable[Path]) -> dict[str, list[Response]]:
    """Return example id → its responses from all folders, in order."""
    found: dict[str, list[Response]] = {}
    for folder in folders:
        for response in read_responses(folder):
            found.setdefault(response.id, []).append(response)
    return found


def pick_examples(examples: Iterable[Example], *, limit: int | None) -> list[Example]:
    """Return at most `limit` examples in their order, chosen by a hash of their ids.

    So every family keeps its share, and a larger limit contains a smaller one.
    """
    if limit is None:
        return list(examples)
    keyed = ((hashlib.sha256(example.id.encode()).digest(), at, example) for at, example in enumerate(examples))
    kept = heapq.nsmallest(limit, keyed, key=lambda entry: entry[:2])
    return [example for _, at, example in sorted(kept, key=lambda entry: entry[1])]
