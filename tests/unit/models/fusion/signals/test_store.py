"""Packed ids: every id found where it is, nothing else found, equal checksums told apart."""

import pytest

from models.fusion.signals import store
from models.fusion.signals.store import MISSING, IdTable

GROUPS = [["row-1", "", "café"], [], ["東京", "row-10", "row-100"]]
FLAT = [id_ for group in GROUPS for id_ in group]


@pytest.fixture(params=["crc32", "all equal"])
def table(request, monkeypatch) -> IdTable:
    if request.param == "all equal":
        monkeypatch.setattr(store, "crc32", lambda key: 7)
    return IdTable(GROUPS)


def test_ids_by_position(table):
    assert tuple(table) == tuple(FLAT)
    assert [table[i] for i in range(-6, 6)] == FLAT + FLAT
    assert table[1:5:2] == ("", "東京")
    assert len(table) == 6
    with pytest.raises(IndexError):
        table[6]


def test_positions_by_id(table):
    assert table.find(FLAT).tolist() == list(range(6))
    assert table.find(["row-100", "row", "row-1", "row-1"]).tolist() == [5, MISSING, 0, 0]
    assert "" in table
    assert "row-" not in table
    assert 3 not in table
    assert not list(table.repeated())


def test_repeated_ids_are_reported(monkeypatch):
    for checksum in (store.crc32, lambda key: 7):
        monkeypatch.setattr(store, "crc32", checksum)
        table = IdTable([["a", "b"], ["c", "a", "a"]])
        assert list(table.repeated()) == [(0, 3), (0, 4)]
        assert table.find(["a"]).tolist() == [0]


def test_many_ids_are_found_chunk_by_chunk():
    ids = [f"sample-{i}" for i in range(40_000)]
    table = IdTable([ids])
    assert table.find(ids[::-1]).tolist() == list(range(40_000))[::-1]
    assert tuple(table) == tuple(ids)


def test_table_of_nothing_finds_nothing():
    table = IdTable([])
    assert table.find(["a"]).tolist() == [MISSING]
    assert table.find([]).tolist() == []
    assert not list(table.repeated())
    assert tuple(table) == ()
