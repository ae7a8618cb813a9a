import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from models.corpus import rows
from models.corpus.rows import read_array
from models.errors import DataError

ROWS = [1.5e-7, {"a": [1, {"b": "]"}]}, 'x,"y', 12.5, None, [], {"ü": "ä" * 50}]


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize("indent", [None, 1])
def test_elements_come_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None) -> None:
    monkeypatch.setattr(rows, "_BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=indent), encoding="utf-8")
    assert list(read_array(path)) == list(enumerate(ROWS, start=1))


def test_gzip_and_zip_are_read(tmp_path: Path) -> None:
    text = json.dumps(ROWS).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/a.json", text)
    assert [row for _, row in read_array(tmp_path / "a.json.gz")] == ROWS
    assert [row for _, row in read_array(tmp_path / "a.zip", member="data/a.json")] == ROWS


def test_comment_lines_at_the_beginning_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("####\n# [1] #\n[\n 3]\n")
    assert list(read_array(tmp_path / "a.json")) == [(1, 3)]


def test_memory_holds_one_element_at_a_time_of_an_array_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["x" * 1000] * 5000))
    tracemalloc.start()
    try:
        assert sum(len(row) for _, row in read_array(path)) == 5_000_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_an_error_of_the_element(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, " + "[" * 100_000 + "]" * 100_000 + "]")
    with pytest.raises(DataError, match=r"a\.json.*element 2 "):
        list(read_array(tmp_path / "a.json"))


@pytest.mark.parametrize("text", ["[]", " [ ] \n"])
def test_an_empty_array_has_no_elements(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert list(read_array(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("[1][2]", 2),
        ("[] x", 1),
        ("", 1),
        ('{"a": 1}', 1),
        ("[1, 2", 3),
        ("[1, 2 3]", 3),
        ('[1, {"a": }]', 2),
        ("[1,]", 2),
        ("[123", 2),
        ("[1, 2}", 3),
    ],
)
def test_a_damaged_file_is_named_with_the_element(tmp_path: Path, text: str, element: int) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json.*element {element} "):
        list(read_array(tmp_path / "a.json"))


def test_missing_files_and_members_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json"):
        list(read_array(tmp_path / "a.json"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.json", "[]")
    with pytest.raises(DataError, match=r"a\.zip:data\.json"):
        list(read_array(tmp_path / "a.zip", member="data.json"))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b"[1, 2, 3]")[:-12])
    with pytest.raises(DataError, match=r"b\.json\.gz"):
        list(read_array(tmp_path / "b.json.gz"))
    (tmp_path / "c.json").write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match=r"c\.json"):
        list(read_array(tmp_path / "c.json"))
