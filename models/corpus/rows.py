"""Streaming of raw rows from JSON lines (also compressed), Parquet, and large JSON arrays."""

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from models.corpus.fields import BadRecord
from models.corpus.file_kind import READ_ERRORS, is_parquet, open_bytes
from models.errors import DataError, Problem

PairsHook = Callable[[list[tuple[str, Any]]], Any]
_BATCH = 64


def read_rows(path: Path, *, pairs: PairsHook | None = None) -> Iterator[tuple[int, object]]:
    """Yield (number, row) of every line that is not blank (of a Parquet file: of every row), numbers from 1.

    `pairs` builds an object from its names and values, for checks that need repeated names, which a dict loses.
    A line that cannot be read is yielded as a `BadRecord`, because raising it would end the generator.

    Raises:
        UnsupportedFileError: The file is of another type.
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
    """Build an object from its names and values; a hook for `read_rows`.

    Raises:
        BadRecord: A name occurs twice, at any depth: JSON would keep only the last value.
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
        # Without the line end, so that an unterminated value is reported on this line.
        return json.loads(line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"), object_pairs_hook=pairs)
    except UnicodeDecodeError as error:
        return BadRecord("must be UTF-8", f"byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        hint = "Write one object a line instead of one array." if line.strip() in (b"[", b"{") else ""
        return BadRecord("must be one JSON object a line", f"malformed at column {error.colno} ({error.msg})", hint)
    except BadRecord as bad:  # raised by the hook
        return bad
    except (RecursionError, ValueError) as error:
        return BadRecord("must be one JSON object a line", f"unreadable ({error})")


_BLOCK = 1 << 16
_BLANK = " \t\r\n"
_ENDS = frozenset({",", "]", *_BLANK})


def read_array(path: Path, *, member: str = "") -> Iterator[tuple[int, Any]]:
    """Yield (number, element) of a JSON array; numbers count from 1. Memory holds one element at a time.

    Lines before the array that begin with `#` are dropped.

    Args:
        path: A JSON file, also compressed, or a zip archive.
        member: File in the archive.

    Raises:
        DataError: The file is missing, damaged, or not an array; names file and element.
    """
    number = 0
    try:
        with open_text(path, member=member) as text:
            for number, element in enumerate(_elements(text), start=1):
                yield number, element
    except (*READ_ERRORS, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise _unreadable(path, member, number + 1, error) from error


@contextmanager
def open_text(path: Path, *, member: str = "") -> Iterator[TextIO]:
    """Open a text file, also a compressed one, or `member` of a zip archive, as UTF-8."""
    if member:
        with zipfile.ZipFile(path) as archive, archive.open(member) as raw:
            yield TextIOWrapper(raw, encoding="utf-8")
    else:
        with open_bytes(path) as file:
            # Detached at the end, as `open_bytes` closes what it opened.
            text = TextIOWrapper(file, encoding="utf-8")
            try:
                yield text
            finally:
                text.detach()


def _elements(text: TextIO) -> Iterator[Any]:
    buffer = _Buffer(text)
    if buffer.next_sign() != "[":
        raise ValueError("not a JSON array")
    buffer.skip()
    if buffer.next_sign() == "]":
        buffer.skip()
    else:
        yield from _until_bracket(buffer)
    if rest := buffer.next_sign():
        raise ValueError(f"{rest!r} behind the array")


def _until_bracket(buffer: "_Buffer") -> Iterator[Any]:
    while True:
        yield buffer.value()
        sign = buffer.next_sign()
        if sign not in (",", "]"):
            raise ValueError(f"expected `,` or `]`, found {sign!r}")
        buffer.skip()
        if sign == "]":
            return


class _Buffer:
    """A window over the text, from which JSON values are decoded."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._rest = _after_comments(text)
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_sign(self) -> str:
        """Return the next non-blank character; empty at the end."""
        while True:
            while self._at < len(self._rest) and self._rest[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._rest) or not self._more():
                return self._rest[self._at : self._at + 1]

    def skip(self) -> None:
        self._at += 1

    def value(self) -> Any:
        """Decode the next JSON value and move past it."""
        self.next_sign()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._rest, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            # A number may continue in the next block: `1` of `12`, `1.5` of `1.5e3`.
            if self._rest[end : end + 1] in _ENDS or not self._more():
                self._at = end
                return found

    def _more(self) -> bool:
        """Read at least as much as is buffered, so that a long value is not decoded again for every block."""
        kept = self._rest[self._at :]
        block = self._text.read(max(_BLOCK, len(kept)))
        self._rest, self._at = kept + block, 0
        return bool(block)


def _after_comments(text: TextIO) -> str:
    # In blocks: an array is often one line.
    while (line := text.readline(_BLOCK)).startswith("#"):
        while line and not line.endswith("\n"):
            line = text.readline(_BLOCK)
    return line


def _unreadable(path: Path, member: str, number: int, error: Exception) -> DataError:
    where = f"{path}:{member}" if member else str(path)
    rule = "must be a JSON array"
    hint = "Fetch the file again, or check `dialogues.path` (relative to the project root)."
    problem = Problem(where, rule, f"unreadable at element {number} ({error})", hint)
    return DataError("Dialogue data cannot be read", [problem])
