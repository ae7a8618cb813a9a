"""Carrying an index over to an edited knowledge base."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, write_kb
from models.dialogue.retrieval import kb_index
from models.dialogue.retrieval.embedding import embed_entities
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.dialogue.retrieval.kb_index import build_kb_index, find_changes, load_kb_index, refresh_kb_index
from models.errors import RetrievalError
from models.params.index import IndexParams
from models.params.retriever import PicoEncoder, RetrieverParams

WORDS = ["worth", "golden", "house", "north", "south", "wok", "shaddai", "green", "river", "inn"]
NAMES = [f"{a} {b} {c}" for a in WORDS for b in WORDS[:4] for c in WORDS[4:8]]


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2), attributes=("area",))
    return build_retriever(cfg, texts=[*NAMES, "name area"], root=Path())


def knowledge(folder: Path, names: Sequence[str]) -> KnowledgeBase:
    """The entities get their ids by row, so that only texts tell them apart."""
    path = folder / "kb.jsonl"
    write_kb(path, (Entity(str(i), "hotel", {"name": name, "phone": f"{i}{len(names)}"}) for i, name in enumerate(names)))
    return KnowledgeBase.load(path)


EDITS: dict[str, tuple[list[str], int]] = {
    "nothing": (NAMES[:100], 0),
    "one changed": ([*NAMES[:40], "the new inn", *NAMES[41:100]], 1),
    "added": (NAMES[:110], 10),
    "removed at the end": (NAMES[:90], 0),
    "removed in between": ([*NAMES[:95], *NAMES[96:100]], 0),
    "put in front": (["the new inn", *NAMES[:100]], 1),
    "two exchanged and one new": ([NAMES[1], NAMES[0], *NAMES[2:99], "the new inn"], 1),
    "most changed": ([*NAMES[:20], *NAMES[100:160]], 60),
}


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("edit", EDITS)
def test_only_new_texts_are_embedded_and_every_row_has_its_vector(
    kind: Any, edit: str, retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, wanted = EDITS[edit]
    cfg = IndexParams(kind=kind, nlist=4, nprobe=4)
    build_kb_index(retriever, knowledge(tmp_path, NAMES[:100]), cfg=cfg).save(tmp_path / "old")
    seen: list[int] = []

    def counted(given: Retriever, kb: KnowledgeBase, *, rows: Sequence[int], **more: Any) -> np.ndarray:
        seen.extend(rows)
        return embed_entities(given, kb, rows=rows, **more)

    monkeypatch.setattr(kb_index, "embed_entities", counted)
    kb = knowledge(tmp_path, names)
    made = refresh_kb_index(load_kb_index(tmp_path / "old", encoder=retriever.digest()), retriever, kb)
    assert len(seen) == made.num_embedded == wanted
    full = embed_entities(retriever, kb)
    np.testing.assert_allclose(made.index.reconstruct(np.arange(len(kb))), full, atol=1e-5)
    assert made.index.ids.tolist() == list(range(len(kb)))
    hits = made.index.search(full[:20], 1)
    np.testing.assert_allclose(hits.scores[:, 0], 1, atol=1e-5)
    assert (made.index.encoder_digest, made.index.kb_digest) == (retriever.digest(), kb.digest)
    made.save(tmp_path / "new")
    again = refresh_kb_index(load_kb_index(tmp_path / "new", encoder=retriever.digest()), retriever, kb)
    assert again.num_embedded == 0


def test_what_does_not_belong_together_is_refused(retriever: Retriever, tmp_path: Path) -> None:
    made = build_kb_index(retriever, knowledge(tmp_path, NAMES[:5]), cfg=IndexParams())
    made.save(tmp_path / "one")
    other = build_kb_index(retriever, knowledge(tmp_path, NAMES[1:6]), cfg=IndexParams())
    other.save(tmp_path / "two")
    with pytest.raises(RetrievalError, match="must be the index of the encoder `other`"):
        load_kb_index(tmp_path / "one", encoder="other")
    (tmp_path / "one" / "texts.npy").write_bytes((tmp_path / "two" / "texts.npy").read_bytes())
    with pytest.raises(RetrievalError, match="does not belong to the index next to it"):
        load_kb_index(tmp_path / "one", encoder=retriever.digest())
    (tmp_path / "two" / "texts.npy").write_bytes(b"short")
    with pytest.raises(RetrievalError, match=r"texts\.npy` cannot be read"):
        load_kb_index(tmp_path / "two", encoder=retriever.digest())
    record = json.loads((tmp_path / "one" / "index.json").read_text())
    assert "texts.npy" not in record["files"]
    changed = build_retriever(retriever.cfg.model_copy(update={"seed": 1}), texts=NAMES, root=Path())
    with pytest.raises(RetrievalError, match="made with another encoder"):
        refresh_kb_index(made, changed, knowledge(tmp_path, NAMES[:5]))
    refresh_kb_index(made, retriever, knowledge(tmp_path, NAMES[:6]))
    with pytest.raises(RetrievalError, match="carried over to another knowledge base already"):
        refresh_kb_index(made, retriever, knowledge(tmp_path, NAMES[:5]))


def test_changes_from_and_to_nothing() -> None:
    none, three = np.empty((0, 16), dtype=np.uint8), np.arange(48, dtype=np.uint8).reshape(3, 16)
    added, removed = find_changes(none, three), find_changes(three, none)
    assert added.rows.tolist() == [0, 1, 2] and not added.moved.any() and not len(added.removed)
    assert removed.removed.tolist() == [0, 1, 2] and not len(removed.rows)
