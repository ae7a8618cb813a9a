"""The index of a whole knowledge base; after an edit only entities whose text changed are embedded again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.retrieval.embedding import Progress, embed_entities
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import HybridIndex, SearchIndex
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.index.file import IndexRecord
from models.dialogue.retrieval.index.kinds import resolve_kind
from models.dialogue.retrieval.lexical import FILE as LEXICAL_FILE
from models.dialogue.retrieval.lexical import LexicalIndex
from models.errors import RetrievalError
from models.params.index import IndexParams

Rows = npt.NDArray[np.int64]
Texts = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EntityChanges:
    """The difference of two knowledge bases, row by row.

    Attributes:
        rows: Rows with another text than before, or none before, rising, int64[M].
        moved: Whether that text stood in another row before, bool[M].
        origins: That row, int64[M]; any number where it did not.
        removed: Rows after the current last one, int64[R].
        num_before: Rows before.
    """

    rows: Rows
    moved: npt.NDArray[np.bool_]
    origins: Rows
    removed: Rows
    num_before: int


def find_changes(before: Texts, after: Texts) -> EntityChanges:
    """Compare the digests of all texts, uint8[N, 16] each, N before and after."""
    common = min(len(before), len(after))
    differs = np.ones(len(after), dtype=np.bool_)
    differs[:common] = (before[:common] != after[:common]).any(axis=1)
    rows = np.flatnonzero(differs).astype(np.int64)
    origins = _origins(before, after[rows])
    moved = (before[origins] == after[rows]).all(axis=1) if len(before) else np.zeros(len(rows), dtype=np.bool_)
    return EntityChanges(rows, moved, origins, np.arange(common, len(before), dtype=np.int64), len(before))


def _origins(before: Texts, wanted: Texts) -> Rows:
    """Return the row of `before` that holds each wanted digest, or another one where none does."""
    if not len(before) or not len(wanted):
        return np.zeros(len(wanted), dtype=np.int64)
    keys, sought = (np.ascontiguousarray(texts[:, :8]).view(np.uint64).ravel() for texts in (before, wanted))
    order = np.argsort(keys, kind="stable")
    return order[np.minimum(np.searchsorted(keys[order], sought), len(keys) - 1)]


TEXTS_FILE = "texts.npy"
_BYTES = 16
# Cells were learned from other entities, and moving most entities costs as much as indexing all.
_REBUILT_FROM = 0.5
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KbIndex:
    """An index over all entities of a knowledge base.

    Attributes:
        index: Its ids are the rows 0 to N − 1.
        texts: Digest of what the encoder reads of each entity, uint8[N, 16].
        kb_digest: Digest of the knowledge base of `texts`; outdated once the index is moved to another one.
        num_embedded: Entities that were embedded to make it.
        lexical: Inverted lists of the same knowledge base, for hybrid scoring.
    """

    index: EntityIndex
    texts: Texts
    kb_digest: str
    num_embedded: int
    lexical: LexicalIndex | None = None

    def search_index(self, retriever: Retriever) -> SearchIndex:
        """Return what ranks entities by the retriever's score."""
        return with_lexical(self.index, retriever, self.lexical)

    def save(self, folder: Path) -> None:
        """Write the index, the inverted lists and the digests of the texts."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TEXTS_FILE).unlink(missing_ok=True)
        self.index.save(folder)
        if self.lexical is not None:
            self.lexical.save(folder)
        np.save(folder / TEXTS_FILE, np.concatenate([_owner(self.index.encoder_digest, self.index.kb_digest), self.texts]))


def build_kb_index(
    retriever: Retriever, kb: KnowledgeBase, *, cfg: IndexParams, device: str | None = None, on_progress: Progress | None = None
) -> KbIndex:
    """Embed every entity, similar lengths together, and index them.

    Args:
        retriever: It must be on `device`.
        kb: The knowledge base.
        cfg: The section `index`.
        device: Where to embed and search; None = where the retriever is.
        on_progress: Called with (done, total).
    """
    device = device or str(retriever.device)
    e_reps = embed_entities(retriever, kb, device=device, on_progress=on_progress)
    index = _indexed(cfg, e_reps, encoder_digest=retriever.digest(), kb_digest=kb.digest, device=device)
    return KbIndex(index, text_digests(retriever, kb), kb.digest, len(kb), make_lexical(retriever, kb))


def make_lexical(retriever: Retriever, kb: KnowledgeBase) -> LexicalIndex | None:
    """Return the inverted lists of a knowledge base; None where the retriever's score is the cosine."""
    return LexicalIndex.build(kb, retriever.cfg.lexical) if retriever.scorer is not None else None


def with_lexical(index: EntityIndex, retriever: Retriever, lexical: LexicalIndex | None) -> SearchIndex:
    """Return what ranks entities by the retriever's score, with its weights as they are now.

    Raises:
        RetrievalError: The score is hybrid, but there are no inverted lists.
    """
    if retriever.scorer is None:
        return index
    if lexical is None:
        raise RetrievalError("The retriever scores with lexical evidence, but the index has no inverted lists. Build it again.")
    return HybridIndex(index, lexical, retriever.scorer.weights())


def open_kb_index(
    folder: Path, retriever: Retriever, kb: KnowledgeBase, *, device: str = "cpu", verified: bool = False
) -> SearchIndex:
    """Load an index saved by `KbIndex.save` to search it; arguments as in `EntityIndex.load`.

    Raises:
        RetrievalError: Another encoder or knowledge base; a file that is missing, cut short or altered.
    """
    index = EntityIndex.load(folder, expect_encoder=retriever.digest(), expect_kb=kb.digest, verified=verified, device=device)
    lexical = LexicalIndex.load(folder, expect_kb=kb.digest) if retriever.scorer is not None else None
    return with_lexical(index, retriever, lexical)


def load_kb_index(folder: Path, *, encoder: str, device: str = "cpu") -> KbIndex:
    """Load an index saved by `KbIndex.save`, of any knowledge base, into memory, where it can be modified.

    Inverted lists come along where there are some.

    Args:
        folder: The folder.
        encoder: Digest of the encoder that it must be of.
        device: Where it is searched.

    Raises:
        RetrievalError: Another encoder; a file that is missing, altered, or of another index.
    """
    record = IndexRecord.read(folder)
    index = EntityIndex.load(folder, expect_encoder=encoder, expect_kb=record.kb_digest, mmap=False, device=device)
    path = folder / TEXTS_FILE
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise RetrievalError(f"`{path}` cannot be read ({err!r}). Build the index again.") from err
    owner = _owner(encoder, record.kb_digest)
    if rows.shape != (record.count + 1, _BYTES) or not np.array_equal(rows[:1], owner):
        raise RetrievalError(f"`{path}` does not belong to the index next to it. Build the index again.")
    lexical = LexicalIndex.load(folder, expect_kb=record.kb_digest) if (folder / LEXICAL_FILE).exists() else None
    return KbIndex(index, rows[1:], record.kb_digest, 0, lexical)


def refresh_kb_index(
    old: KbIndex, retriever: Retriever, kb: KnowledgeBase, *, device: str | None = None, on_progress: Progress | None = None
) -> KbIndex:
    """Carry an index over to an edited knowledge base; the encoder is called for new texts only.

    Rows whose text moved keep its vector. The index is changed in place, its cells as they were learned, unless it is of a kind
    that cannot be, or half of the rows changed. Vectors are those of a full pass up to rounding, which depends on the batch.
    Inverted lists are made again.

    Args:
        old: The index; it must not be used afterwards.
        retriever: The encoder it was made with, on `device`.
        kb: The knowledge base as it is now.
        device: Where to embed; None = where the retriever is.
        on_progress: Called with (done, total) of the texts to embed.

    Raises:
        RetrievalError: Another encoder, or an index that was carried over already.
    """
    if old.index.kb_digest != old.kb_digest:
        raise RetrievalError("The index was carried over to another knowledge base already. Use what that call returned.")
    if old.index.encoder_digest != retriever.digest():
        raise RetrievalError("The index was made with another encoder, so that every entity must be embedded. Build it again.")
    device = device or str(retriever.device)
    texts = text_digests(retriever, kb)
    changes = find_changes(old.texts, texts)
    vectors = np.empty((len(changes.rows), old.index.dim), dtype=np.float32)
    vectors[changes.moved] = old.index.reconstruct(changes.origins[changes.moved])
    fresh = changes.rows[~changes.moved]
    vectors[~changes.moved] = embed_entities(retriever, kb, rows=fresh.tolist(), device=device, on_progress=on_progress)
    index = _changed(old.index, changes, vectors, num=len(kb), device=device)
    index.kb_digest = kb.digest
    return KbIndex(index, texts, kb.digest, len(fresh), make_lexical(retriever, kb))


def text_digests(retriever: Retriever, kb: KnowledgeBase) -> Texts:
    """Return the digest of what the encoder reads of each entity, uint8[N, 16]."""
    texts = (retriever.entity_text(entity).encode() for entity in kb.entities)
    joined = bytearray().join(hashlib.blake2b(text, digest_size=_BYTES).digest() for text in texts)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, _BYTES)


def _changed(index: EntityIndex, changes: EntityChanges, vectors: Floats, *, num: int, device: str) -> EntityIndex:
    cfg, count = index.params, len(changes.rows) + len(changes.removed)
    if index.kind == "hnsw" or index.kind != resolve_kind(cfg, num) or count > _REBUILT_FROM * max(num, 1):
        e_reps = np.empty((num, index.dim), dtype=np.float32)
        kept = np.setdiff1d(np.arange(num), changes.rows, assume_unique=True)
        e_reps[kept], e_reps[changes.rows] = index.reconstruct(kept), vectors
        return _indexed(cfg, e_reps, encoder_digest=index.encoder_digest, kb_digest=index.kb_digest, device=device)
    index.kb_digest = ""  # until all is done, it is the index of no knowledge base
    if len(changes.removed):
        index.remove(changes.removed)
    added = changes.rows >= changes.num_before
    if not added.all():
        index.update(changes.rows[~added], vectors[~added])
    if added.any():
        index.add(changes.rows[added], vectors[added])
    return index


def _indexed(cfg: IndexParams, e_reps: Floats, *, encoder_digest: str, kb_digest: str, device: str) -> EntityIndex:
    ids = np.arange(len(e_reps), dtype=np.int64)
    return EntityIndex.build(cfg, e_reps, ids=ids, encoder_digest=encoder_digest, kb_digest=kb_digest, device=device)


def _owner(encoder: str, kb: str) -> Texts:
    """Return the row that identifies the index of the digests, uint8[1, 16]."""
    return np.frombuffer(hashlib.blake2b(f"{encoder} {kb}".encode(), digest_size=_BYTES).digest(), dtype=np.uint8)[None]
