"""Streams the records of a data set: JSONL, gzip-compressed JSONL, or a Hugging Face data set folder.

One record at a time; a bad one becomes a `Problem` with file and line and does not stop the others.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.formats import LeftOut, parse_row
from models.data.validate import BadRecord, shown
from models.errors import DataError, Problem
from models.params.corpus import CorpusSet
from models.schema import Example

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a data set and what became of it.

    Attributes:
        number: Line of the file (rows of a Hugging Face folder count from 1 too).
        outcome: The example; or what is wrong; or why the params leave it out (`too_short`, `too_long`).
    """

    number: int
    outcome: Example | Problem | str


def read_set(cfg: CorpusSet, *, root: Path) -> Iterator[Record]:
    """Yield the records of a data set in order.

    Args:
        cfg: The data set; its `path` is relative to `root`.
        root: Project root.

    Raises:
        DataError: The file or folder is missing, or is not what it should be as a whole.
    """
    path = root / cfg.path
    rows = _folder_rows(path, cfg) if path.is_dir() else _file_rows(path, cfg)
    for number, row in rows:
        yield Record(number, _outcome(row, cfg, number))


def _outcome(row: object, cfg: CorpusSet, number: int) -> Example | Problem | str:
    try:
        if isinstance(row, BadRecord):
            raise row
        return parse_row(row, cfg, number=number)
    except BadRecord as bad:
        return bad.at(f"{cfg.path}:{number}")
    except LeftOut as left_out:
        return left_out.reason


def _file_rows(path: Path, cfg: CorpusSet) -> Iterator[tuple[int, object]]:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if compressed else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse_line(line, first=number == 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(cfg, str(error)) from error


def _parse_line(line: bytes, *, first: bool) -> object:
    """Return the row, or a `BadRecord` (not raised: a generator would end with it)."""
    try:
        # Without its end, so that what is missing there is reported on this line.
        return json.loads(line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        return BadRecord("must be UTF-8", f"byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        hint = "Write one object a line instead of one array." if line.strip() in (b"[", b"{") else ""
        return BadRecord("must be one JSON object a line", f"malformed at column {error.colno} ({error.msg})", hint)
    except (RecursionError, ValueError) as error:
        return BadRecord("must be one JSON object a line", f"unreadable ({error})")


def _folder_rows(path: Path, cfg: CorpusSet) -> Iterator[tuple[int, object]]:
    # Imported here: it takes a second, and most data sets are JSONL.
    from datasets import DatasetDict, load_from_disk

    try:
        data: Any = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(cfg, str(error)) from error
    if isinstance(data, DatasetDict):
        names = ", ".join(data)
        hint = f"Name one of them in `path`, such as `{cfg.path.rstrip('/')}/{next(iter(data), 'train')}`."
        problem = Problem(cfg.path, "must be one data set", f"a folder of several ({names})", hint)
        raise DataError(f"Data set `{cfg.name}` cannot be read", [problem])
    yield from enumerate(data, start=1)


def _unreadable(cfg: CorpusSet, why: str) -> DataError:
    rule = "must be a JSONL file, a gzip-compressed one, or a folder written by `save_to_disk`"
    hint = "Check `corpus.sets[…].path` (relative to the project root)."
    return DataError(f"Data set `{cfg.name}` cannot be read", [Problem(cfg.path, rule, shown(why, most=160)[4:], hint)])
