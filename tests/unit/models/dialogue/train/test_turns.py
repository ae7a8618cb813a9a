import pytest

from models.dialogue.train.turns import TokenRows, in_chunks


def test_rows_come_back():
    rows = TokenRows(iter([[1, 2], [], [70_000]]))
    assert len(rows) == 3 and list(rows) == [[1, 2], [], [70_000]]
    with pytest.raises(IndexError):
        rows[3]
    assert len(TokenRows([])) == 0


def test_chunks():
    assert list(in_chunks(iter("abcde"), size=2)) == [["a", "b"], ["c", "d"], ["e"]]
