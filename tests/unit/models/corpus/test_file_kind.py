"""Files are what their first bytes say: compressions and Parquet are read, other kinds refused by name, in every reader."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.corpus.file_kind import UnsupportedFileError, open_bytes
from models.corpus.readers import read_set
from models.corpus.rows import read_array
from models.dialogue.data.readers.jsonl import problems_in
from models.errors import DataError
from models.params.corpus import CorpusSet
from models.schema import Example

ROWS = [{"question": f"Wo ist Nr. {i}?", "answer": f"Hör zu: {i}"} for i in range(300)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def _zstd(data: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": _zstd,
    "zstd of two frames": lambda data: _zstd(data[:5000]) + _zstd(data[5000:]),
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bz2": bz2.compress,
    "gzip in gzip": lambda data: gzip.compress(gzip.compress(data)),
    "xz in zstd": lambda data: _zstd(lzma.compress(data)),
    "zstd behind a frame to skip": lambda data: b"\x5a\x2a\x4d\x18\x04\0\0\0head" + _zstd(data),
}


def _answers(path: Path) -> list[str]:
    records = read_set(CorpusSet(name="set", path=path.name, format="qa"), root=path.parent)
    return [r.outcome.response if isinstance(r.outcome, Example) else str(r.outcome) for r in records]


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_files_are_read_whatever_their_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(COMPRESSIONS[kind](LINES))
    assert _answers(path) == [row["answer"] for row in ROWS]
    path.write_bytes(COMPRESSIONS[kind](json.dumps(ROWS).encode()))
    assert [row for _, row in read_array(path)] == ROWS


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
def test_a_truncated_file_is_an_error_of_the_set(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = COMPRESSIONS[kind](LINES)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match="Data set `set` cannot be read"):
        _answers(path)


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    path = tmp_path / "rows.jsonl"
    write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=100)
    assert _answers(path) == [row["answer"] for row in ROWS]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="Data set `set` cannot be read"):
        _answers(path)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"), io.BytesIO())
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rows.jsonl", LINES)
    return buffer.getvalue()


FOREIGN = {
    "a zip archive": _zip(),
    "a tar archive": _tar(),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "compressed with lz4": b"\x04\x22\x4d\x18rest",
    "compressed with snappy": b"\xff\x06\x00\x00sNaPpYrest",
    "an Arrow file": b"ARROW1\0\0",
    "an Arrow stream": b"\xff\xff\xff\xff\x10\0\0\0",
    "a Feather file": b"FEA1....",
    "an SQLite database": b"SQLite format 3\0....",
    "a PDF document": b"%PDF-1.7\n",
    "an HTML or XML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "text in UTF-16": LINES.decode().encode("utf-16"),
    "text in UTF-32": LINES.decode().encode("utf-32"),
    "text in UTF-16LE": LINES.decode().encode("utf-16-le"),
    "a pickle": b"\x80\x04\x95",
    "text in UTF-16BE": b"\0\n" + LINES.decode().encode("utf-16-be"),
    "text in UTF-32LE": LINES.decode().encode("utf-32-le"),
    "text in UTF-32BE": LINES.decode().encode("utf-32-be"),
    "binary data": b"GGUF\3\0\0\0\5\0\0\0",
    "an encrypted Parquet file": b"PARE....",
    "a DVC pointer": b"md5: 0a\nouts:\n- md5: 0b\n",
    "a git-annex pointer": b"/annex/objects/SHA256E-s12--0a",
    "an image": b"\x89PNG\r\n\x1a\n",
}
TABLES = ["question,answer\nq,a", ",question,answer\n0,q,a", "Frage;Antwört\nq;a", "问题\t答案\nq\ta", "q|a\n1|2"]
TABLES += ['"question, or q","answer"\r\n"a","b"', "0,1\nq,a", "\ufeffquestion,answer\nq,a", "question,answer\rq,a"]
FOREIGN |= {
    f"a table (CSV or TSV) by its first line, {' '.join(t.lstrip(chr(0xFEFF)).splitlines()[0].split())}": t.encode()
    for t in TABLES
}


@pytest.mark.parametrize("seen", FOREIGN)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_other_kinds_are_refused_by_name_with_what_to_do(seen: str, wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(wrap(FOREIGN[seen]))
    with pytest.raises(UnsupportedFileError) as foreign, open_bytes(path):
        pass
    assert foreign.value.seen.startswith(seen)
    with pytest.raises(DataError) as caught:
        _answers(path)
    assert f"but is {foreign.value.seen}. {foreign.value.hint}" in str(caught.value)
    with pytest.raises(DataError):
        list(read_array(path))


def test_a_stray_first_line_is_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for stray in (b"made in 2021, revised\n", b"{\0\n", b"\0\0\0\n"):
        path.write_bytes(stray + LINES)
        answers = _answers(path)
        assert "must be one JSON object a line" in answers[0]
        assert answers[1:] == [row["answer"] for row in ROWS]


def test_maps_of_parquet_are_objects(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    choices = pyarrow.array([[("A", "oak"), ("B", "ash")]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    write_table(pyarrow.table({"question": ["Which?"], "answer": ["A"], "choices": choices}), tmp_path / "rows.parquet")
    (record,) = read_set(CorpusSet(name="set", path="rows.parquet", format="qa"), root=tmp_path)
    assert isinstance(record.outcome, Example)
    assert record.outcome.messages[0].content == "Which?\nA. oak\nB. ash"


def test_the_reader_of_dialogues_knows_the_kinds_too(tmp_path: Path) -> None:
    kb = json.dumps({"id": 1, "name": "The Oak"}).encode()
    turn = {"dialogue": 1, "context": ["hi"], "response": "the oak"}
    (tmp_path / "kb.jsonl").write_bytes(lzma.compress(kb))
    for number, split in enumerate(("train", "valid", "test")):
        (tmp_path / f"{split}.jsonl").write_bytes(_zstd(json.dumps({**turn, "dialogue": number}).encode()))
    assert problems_in(tmp_path) == []
    (tmp_path / "kb.jsonl").write_bytes(_zip())
    with pytest.raises(DataError, match="but is a zip archive"):
        problems_in(tmp_path)
    (tmp_path / "kb.jsonl").write_bytes(kb + b"\n" + b'{"a":' * 5000 + b'\n{"id": 2, "name": "\\ud800"}\n')
    assert [problem.rule for problem in problems_in(tmp_path)] == ["must be one JSON object a line", "must be valid Unicode"]
