"""Saving and loading: the same index, or a refusal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.dialogue.retrieval.index import file
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.errors import RetrievalError
from models.params.index import IndexParams

DRAWS = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
E_REPS = DRAWS / np.linalg.norm(DRAWS, axis=1, keepdims=True)
IDS = np.arange(300, dtype=np.int64)[::-1] * 3
EXPECT = {"expect_encoder": "encoder", "expect_kb": "kb"}
KINDS = ("flat", "ivf", "hnsw", "pq")


def saved(folder: Path, kind: Any = "flat") -> EntityIndex:
    cfg = IndexParams(kind=kind, nlist=6, nprobe=2, pq_bytes=4)
    index = EntityIndex.build(cfg, E_REPS, ids=IDS, encoder_digest="encoder", kb_digest="kb", threads=1)
    index.save(folder)
    return index


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_index_finds_the_same(kind: str, mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = saved(tmp_path, kind)
    monkeypatch.setattr(file, "MAPPED_FROM_BYTES", 0 if mapped else 2**40)
    loaded = EntityIndex.load(tmp_path, **EXPECT)
    assert loaded.read_only is mapped
    assert (loaded.kind, len(loaded), loaded.dim) == (kind, 300, 16)
    for kwargs in ({}, {"within": [[0, 3, 6]] * 4}):
        ours, theirs = index.search(E_REPS[:4], 9, **kwargs), loaded.search(E_REPS[:4], 9, **kwargs)
        assert ours.rows.tolist() == theirs.rows.tolist() and ours.scores.tolist() == theirs.scores.tolist()
    np.testing.assert_array_equal(loaded.reconstruct(IDS[[7, 2]]), E_REPS[[7, 2]])
    again = tmp_path / "again"
    loaded.save(again)
    assert EntityIndex.load(again, **EXPECT).search(E_REPS[:4], 9).rows.tolist() == index.search(E_REPS[:4], 9).rows.tolist()


@pytest.mark.parametrize("kind", ["flat", "ivf", "pq"])
def test_a_loaded_index_can_be_changed_unless_it_is_mapped(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, kind)
    monkeypatch.setattr(file, "MAPPED_FROM_BYTES", 0)
    mapped = EntityIndex.load(tmp_path, **EXPECT)
    with pytest.raises(RetrievalError, match="Load it with `mmap=False`"):
        mapped.update(IDS[:1], E_REPS[1:2])
    loaded = EntityIndex.load(tmp_path, **EXPECT, mmap=False)
    loaded.update(IDS[:1], -E_REPS[:1])
    loaded.remove(IDS[1:2])
    assert loaded.search(-E_REPS[:1], 1).rows.tolist() == [[int(IDS[0])]]
    assert len(loaded) == 299
    assert mapped.search(E_REPS[:1], 1).rows.tolist() == [[int(IDS[0])]]


def test_files_of_two_builds_are_equal(tmp_path: Path) -> None:
    for kind in KINDS:
        saved(tmp_path / "a" / kind, kind)
        saved(tmp_path / "b" / kind, kind)
        records = [(tmp_path / side / kind / "index.json").read_bytes() for side in "ab"]
        assert records[0] == records[1]
        assert not list((tmp_path / "a" / kind).glob("*.part"))


@pytest.mark.parametrize(
    ("expect", "what"),
    [({"expect_encoder": "other"}, "encoder `other`, but was built with `encoder`"), ({"expect_kb": "x"}, "knowledge base `x`")],
)
def test_another_encoder_or_knowledge_base_is_refused(expect: dict[str, str], what: str, tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(RetrievalError, match=what):
        EntityIndex.load(tmp_path, **{**EXPECT, **expect})


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _edit_record(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: _flip(f / "index.faiss"), "index.faiss` must have sha256"),
        (lambda f: _flip(f / "vectors.faiss"), "vectors.faiss` must have sha256"),
        (lambda f: (f / "index.faiss").write_bytes(b"short"), r"must have \d+ bytes, but has 5"),
        (lambda f: (f / "vectors.faiss").unlink(), "vectors.faiss` is missing"),
        (lambda f: (f / "index.json").unlink(), r"holds no complete index: `index.json` is missing"),
        (lambda f: (f / "index.json").write_text("{"), "is not an index record"),
        (lambda f: _edit_record(f / "index.json", files={}), "is missing or not in `index.json`"),
        (lambda f: _edit_record(f / "index.json", params={"kind": "tree"}), "is not an index record"),
    ],
)
def test_a_damaged_folder_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    saved(tmp_path, "pq")
    damage(tmp_path)
    with pytest.raises(RetrievalError, match=message):
        EntityIndex.load(tmp_path, **EXPECT)


def test_files_that_were_verified_are_compared_by_size_only(tmp_path: Path) -> None:
    saved(tmp_path)
    _flip(tmp_path / "index.faiss")
    assert len(EntityIndex.load(tmp_path, **EXPECT, verified=True)) == 300
    (tmp_path / "index.faiss").write_bytes(b"short")
    with pytest.raises(RetrievalError, match=r"must have \d+ bytes, but has 5"):
        EntityIndex.load(tmp_path, **EXPECT, verified=True)


def test_killed_while_saving_leaves_no_index_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.dialogue.retrieval.index.faiss_index.write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path)
    with pytest.raises(RetrievalError, match="Build the index again"):
        EntityIndex.load(tmp_path, **EXPECT)
