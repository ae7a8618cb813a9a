import os
from pathlib import Path

from tasks.code_memo import CodeMemo, stamp_of


def test_entries_outlast_the_process_until_the_file_changes(tmp_path: Path) -> None:
    code, filler, place = tmp_path / "code.py", tmp_path / "filler.py", tmp_path / "cache" / "memo.json"
    for path in (code, filler):
        path.write_text("x = 1\n")
    first = CodeMemo(place, filled_by=filler)
    assert first.get(code, stamp_of(code)) is None
    first.put(code, stamp_of(code), ["found"])
    first.save()
    assert CodeMemo(place, filled_by=filler).get(code, stamp_of(code)) == ["found"]
    os.utime(code, ns=(1, 1))
    assert CodeMemo(place, filled_by=filler).get(code, stamp_of(code)) is None


def test_an_edit_of_the_code_that_fills_it_empties_it(tmp_path: Path) -> None:
    code, filler, place = tmp_path / "code.py", tmp_path / "filler.py", tmp_path / "memo.json"
    for path in (code, filler):
        path.write_text("x = 1\n")
    memo = CodeMemo(place, filled_by=filler)
    memo.put(code, stamp_of(code), 1)
    memo.save()
    filler.write_text("x = 23\n")
    assert CodeMemo(place, filled_by=filler).get(code, stamp_of(code)) is None


def test_a_damaged_file_is_an_empty_one(tmp_path: Path) -> None:
    place = tmp_path / "memo.json"
    place.write_text("{")
    memo = CodeMemo(place, filled_by=Path(__file__))
    assert memo.get(Path(__file__), stamp_of(Path(__file__))) is None
