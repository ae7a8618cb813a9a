"""Streaming of a data set's records from JSON lines (also compressed), Parquet, or a Hugging Face data set folder.

A malformed record becomes a `Problem` with file and line and does not stop the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord
from models.corpus.file_kind import READ_ERRORS, UnsupportedFileError
from models.corpus.formats import LeftOut, parse_row
from models.corpus.rows import each_field_once, read_rows
from models.errors import DataError, Problem
from models.params.corpus import CorpusSet
from models.schema import Example


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a data set and the result of parsing it.

    Attributes:
        number: Line of the file (rows of a Hugging Face folder count from 1 too).
        outcome: The example, or a problem, or the reason why the params exclude it (`too_short`, `too_long`).
    """

    number: int
    outcome: Example | Problem | str


def read_set(cfg: CorpusSet, *, root: Path) -> Iterator[Record]:
    """Yield the records of a data set in order.

    Args:
        cfg: The data set; its `path` is relative to `root`.
        root: Project root.

    Raises:
        DataError: The file or folder is missing, or unreadable as a whole.
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
        yield from read_rows(path, pairs=each_field_once)
    except UnsupportedFileError as foreign:
        raise _unreadable(cfg, foreign.seen, foreign.hint) from foreign
    except READ_ERRORS as error:
        raise _unreadable(cfg, str(error)) from error


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


def _unreadable(cfg: CorpusSet, why: str, hint: str = "") -> DataError:
    rule = "must be a file of JSON lines (also gzip, zstd, xz, bz2), a Parquet file, or a folder written by `save_to_disk`"
    hint = hint or "Check `corpus.sets[…].path` (relative to the project root)."
    return DataError(f"Data set `{cfg.name}` cannot be read", [Problem(cfg.path, rule, " ".join(why.split())[:160], hint)])
