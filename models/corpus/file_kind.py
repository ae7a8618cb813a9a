"""Detection of file types by magic bytes: text, transparently decompressed formats, and formats that are refused."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

# What reading a damaged file raises, by any of the libraries (pyarrow's errors are these too).
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
PARQUET = b"PAR1"
_HEAD = 4096
_DEPTH = 3
_JSON_LINES = "Convert it to JSON lines, one object a line."
_UNPACK = "Unpack it, and name the file in it."

_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "a zip archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with snappy", "Unpack it, or use gzip or zstd."),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "Unpack it, or use gzip or zstd."),
    (b"\x02\x21\x4c\x18", "compressed with lz4", "Unpack it, or use gzip or zstd."),
    (b"\x1f\x9d", "compressed with compress", "Unpack it, or use gzip or zstd."),
    (b"LZIP", "compressed with lzip", "Unpack it, or use gzip or zstd."),
    (PARQUET, "a Parquet file in a compressed one", _UNPACK),
    (b"PARE", "an encrypted Parquet file", "Decrypt it, or convert it to JSON lines."),
    (b"ARROW1", "an Arrow file", "Save it as Parquet or as JSON lines, or name the whole data set folder."),
    (b"\xff\xff\xff\xff", "an Arrow stream", "Save it as Parquet or as JSON lines, or name the whole data set folder."),
    (b"FEA1", "a Feather file", "Save it as Parquet or as JSON lines."),
    (b"ORC", "an ORC file", "Save it as Parquet or as JSON lines."),
    (b"Obj\x01", "an Avro file", _JSON_LINES),
    (b"SQLite format 3\0", "an SQLite database", _JSON_LINES),
    (b"\x89HDF", "an HDF5 file", _JSON_LINES),
    (b"\x93NUMPY", "a NumPy array", _JSON_LINES),
    (b"%PDF", "a PDF document", _JSON_LINES),
    (b"\xd0\xcf\x11\xe0", "an Office document", _JSON_LINES),
    (b"version https://git-lfs.github.com/spec", "a Git LFS pointer", "Fetch the file itself: `git lfs pull`."),
    (b"/annex/objects/", "a git-annex pointer", "Fetch the file itself: `git annex get`."),
    (b"\x89PNG", "an image", _JSON_LINES),
    (b"\xff\xd8\xff", "an image", _JSON_LINES),
    *(
        (mark, f"text in {name}", f"Write it as UTF-8: `iconv -f {name} -t UTF-8`.")
        for mark, name in (
            (b"\xff\xfe\0\0", "UTF-32"),
            (b"\0\0\xfe\xff", "UTF-32"),
            (b"\xff\xfe", "UTF-16"),
            (b"\xfe\xff", "UTF-16"),
        )
    ),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-z]", re.IGNORECASE)
_DVC = re.compile(rb"(?:md5: \w+\r?\n)?(?:frozen: \w+\r?\n)?outs:\r?\n- ")
_CELL = r"(?:\"[^\"]*\"|[^\",;\t|{}\[\]]*)"
_TABLE = re.compile("|".join(rf"{_CELL}(?:{re.escape(mark)}{_CELL})+" for mark in ",;\t|"))
# Share of NUL bytes in the first bytes: above the first it is not UTF-8 text, above the second it has wider characters.
_MOST_NUL, _WIDE = 0.05, 0.2


class UnsupportedFileError(ValueError):
    """A file of an unsupported type: `seen` says which, `hint` what to do."""

    def __init__(self, seen: str, hint: str) -> None:
        """Store type and hint."""
        super().__init__(f"{seen}. {hint}")
        self.seen, self.hint = seen, hint


def is_parquet(path: Path) -> bool:
    """Return whether a file begins with Parquet's magic bytes."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file of UTF-8 text as bytes; gzip, zstd, xz and bz2 are decompressed while reading.

    Raises:
        UnsupportedFileError: It is of another type.
        OSError: It cannot be opened.
    """
    opened: list[Any] = [path.open("rb")]
    try:
        for _ in range(_DEPTH):
            head = opened[-1].peek(_HEAD)[:_HEAD]
            undo = next((undo for mark, undo in _COMPRESSIONS if head.startswith(mark)), None)
            if undo is None:
                break
            opened.append(io.BufferedReader(undo(opened[-1]), _HEAD * 16))
        _refuse_foreign(opened[-1].peek(_HEAD)[:_HEAD])
        yield cast(BinaryIO, opened[-1])
    finally:
        for file in reversed(opened):
            file.close()


def _refuse_foreign(head: bytes) -> None:
    for mark, seen, hint in _FOREIGN:
        if head.startswith(mark):
            raise UnsupportedFileError(seen, hint)
    if any(head.startswith(mark) for mark, _ in _COMPRESSIONS):
        raise UnsupportedFileError("compressed several times", _UNPACK)
    if head[257:262] == b"ustar":
        raise UnsupportedFileError("a tar archive", _UNPACK)
    if _PICKLE.match(head):
        raise UnsupportedFileError("a pickle", _JSON_LINES)
    if _HTML.match(head):
        raise UnsupportedFileError("an HTML or XML page, such as a server sends for an error", "Fetch the file again.")
    if _DVC.match(head):
        raise UnsupportedFileError("a DVC pointer", "Fetch the file itself: `dvc pull`.")
    if head.count(0) > _MOST_NUL * len(head):
        raise _binary(head)
    first, *rest = head.decode("utf-8-sig", "replace").lstrip().splitlines() or [""]
    if _TABLE.fullmatch(first.strip()) and not any(line.startswith(("{", "[")) for line in rest[:1]):
        shown = " ".join(first.split())[:60]
        raise UnsupportedFileError(f"a table (CSV or TSV) by its first line, {shown}", _JSON_LINES)


def _binary(head: bytes) -> UnsupportedFileError:
    """Classify a file with NUL bytes: UTF-16 or UTF-32 text, by the positions of the NULs, or binary data."""
    nul = [head[i::4].count(0) / max(len(head[i::4]), 1) > _WIDE for i in range(4)]
    names = {
        (False, True, True, True): "UTF-32LE",
        (True, True, True, False): "UTF-32BE",
        (False, True, False, True): "UTF-16LE",
        (True, False, True, False): "UTF-16BE",
    }
    name = names.get((nul[0], nul[1], nul[2], nul[3]))
    try:
        codecs.getincrementaldecoder(name or "none")().decode(head)  # a head may end inside a character
    except (LookupError, UnicodeError):
        return UnsupportedFileError("binary data", _JSON_LINES)
    return UnsupportedFileError(f"text in {name}", f"Write it as UTF-8: `iconv -f {name} -t UTF-8`.")


def _zstd(file: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


_COMPRESSIONS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (b"\x28\xb5\x2f\xfd", _zstd),
    *((bytes([0x50 + i]) + b"\x2a\x4d\x18", _zstd) for i in range(16)),  # skippable frames, which pzstd writes first
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (b"]\0\0", lzma.LZMAFile),
    (b"BZh", bz2.BZ2File),
)
