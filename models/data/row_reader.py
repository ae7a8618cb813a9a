"""Rows of a file of records: JSON lines (also compressed) or Parquet. One at a time, a bad one tells what is wrong with it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.data.file_kind import is_parquet, open_bytes
from models.data.validate import BadRecord

PairsHook = Callable[[list[tuple[str, Any]]], Any]
_BATCH = 64


def read_rows(path: Path, *, pairs: PairsHook | None = None) -> Iterator[tuple[int, object]]:
    """Yield (number, row) of every line that is not blank (of a Parquet file: of every row), numbers from 1.

    `pairs` makes an object of its names and values, where more is asked of JSON than a dict tells (a name given twice).
    A line that cannot be read is yielded as a `BadRecord` (not raised: a generator would end with it).

    Raises:
        ForeignFileError: The file is of another kind.
        OSError, EOFError, ValueError, zlib.error, lzma.LZMAError: It is missing or damaged (`READ_ERRORS`).
    """
    if is_parquet(path):
        yield from enumerate(_parquet_rows(path), start=1)
        return
    with open_bytes(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parse_line(line, pairs, first=number == 1)


def each_field_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its names and values; a hook for `read_rows`.

    Raises:
        BadRecord: A name is given twice, at any depth: JSON would keep the last value and lose the others.
    """
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRecord(f"must have the field `{twice}` once", f"there {names.count(twice)} times", "Keep the right one.")
    return row


def _parquet_rows(path: Path) -> Iterator[object]:
    # Imported here: most data sets are JSON lines.
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist(maps_as_pydicts="lossy")


def _parse_line(line: bytes, pairs: PairsHook | None, *, first: bool) -> object:
    try:
        # Without its end, so that what is missing there is reported on this line.
        return json.loads(line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"), object_pairs_hook=pairs)
    except UnicodeDecodeError as error:
        return BadRecord("must be UTF-8", f"byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        hint = "Write one object a line instead of one array." if line.strip() in (b"[", b"{") else ""
        return BadRecord("must be one JSON object a line", f"malformed at column {error.colno} ({error.msg})", hint)
    except BadRecord as bad:  # of the hook
        return bad
    except (RecursionError, ValueError) as error:
        return BadRecord("must be one JSON object a line", f"unreadable ({error})")
