"""The index over the entities of a knowledge base (§3.2 of MK-TOD: s = h_c · h_e)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.dialogue.retrieval.index.backend import IndexBackend, Kind
from models.dialogue.retrieval.index.file import IndexRecord, read_files, write_files, write_record
from models.dialogue.retrieval.index.kinds import make_backend, wrap
from models.dialogue.retrieval.index.runtime import FAISS, SharedLock, faiss_threads
from models.dialogue.retrieval.index.search import score_rows, search_all, search_within
from models.dialogue.retrieval.ranking import Hits, session_rows
from models.errors import RetrievalError
from models.params.index import IndexParams

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
# bfloat16 encoders leave the norm within half a percent of one.
_NORM_TOLERANCE = 0.02


class EntityIndex:
    """Entities by embedding; ids are KB rows. Use `build` or `load`.

    Scores are true cosines for every kind: candidates are scored again from the embeddings. Equal scores stand in the order of
    the KB rows. `flat` is exact; `ivf`, `hnsw` and `pq` may miss entities, but always return k.

    Safe to share between threads: each call sees the index before or after each change, never half of one.

    Attributes:
        kind: `flat`, `ivf`, `hnsw` or `pq`.
        dim: Width D of an embedding.
        encoder_digest: The encoder of the embeddings.
        kb_digest: The knowledge base.
        read_only: Whether it is a map of a file, which cannot be changed.
    """

    def __init__(
        self,
        backend: IndexBackend,
        cfg: IndexParams,
        *,
        dim: int,
        fingerprint: tuple[str, str],
        read_only: bool,
        threads: int | None,
    ) -> None:
        """Wrap a backend; `fingerprint` is (encoder digest, KB digest)."""
        self._body = backend
        self._cfg = cfg
        self._threads = threads
        self._lock = SharedLock()
        self.dim = dim
        self.read_only = read_only
        self.encoder_digest, self.kb_digest = fingerprint

    @classmethod
    def build(
        cls,
        cfg: IndexParams,
        e_reps: Floats,
        *,
        ids: npt.ArrayLike,
        encoder_digest: str,
        kb_digest: str,
        device: str = "cpu",
        threads: int | None = None,
    ) -> "EntityIndex":
        """Build an index.

        Args:
            cfg: Kind and its settings.
            e_reps: Embeddings, float32[N, D], L2-normalised; may be a memory map.
            ids: Their KB rows, int64[N].
            encoder_digest: `Retriever.digest()`.
            kb_digest: `KnowledgeBase.digest`.
            device: Where it is searched; `cuda` needs FAISS with GPU support, else the CPU is used and the reason logged.
            threads: Threads of FAISS; None = as many as torch uses.

        Raises:
            RetrievalError: Embeddings that are not normalised or do not fit the ids; too few entities for the kind.
        """
        e_reps = _checked(e_reps, dim=None)
        with faiss_threads(threads):
            backend = make_backend(cfg, e_reps, device=device)
        index = cls(backend, cfg, dim=e_reps.shape[1], fingerprint=(encoder_digest, kb_digest), read_only=False, threads=threads)
        rows = index._rows(ids, num=len(e_reps))
        with faiss_threads(threads):
            backend.add(rows, e_reps)
        return index

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        expect_encoder: str,
        expect_kb: str,
        mmap: bool = True,
        verified: bool = False,
        device: str = "cpu",
        threads: int | None = None,
    ) -> "EntityIndex":
        """Load what `save` wrote, reading every file once to check it.

        Args:
            folder: The folder.
            expect_encoder: Digest of the encoder that will embed the queries.
            expect_kb: Digest of the knowledge base.
            mmap: Map files of 256 MiB and more instead of reading them; such an index is `read_only`.
            verified: The caller has checked the digests of the files, as the artifact store does with what it hands out: only
                their sizes are compared, and a mapped file is read where a search needs it.
            device: As in `build`.
            threads: As in `build`.

        Raises:
            RetrievalError: Another encoder or knowledge base; a file that is missing, cut short or altered.
        """
        record = IndexRecord.read(folder)
        record.require(encoder=expect_encoder, kb=expect_kb, where=str(folder))
        files, mapped = read_files(folder, record, mmap=mmap, verified=verified)
        backend = wrap(record.params, record.kind, files, device=device)
        fingerprint = (record.encoder_digest, record.kb_digest)
        return cls(backend, record.params, dim=record.dim, fingerprint=fingerprint, read_only=mapped, threads=threads)

    def save(self, folder: Path) -> None:
        """Write the index to `folder`: files aside and renamed, `index.json` last."""
        with self._lock.writing():  # what is made for look-ups by id is dropped before an index is written
            files = write_files(folder, self._body.files())
            record = IndexRecord(self.kind, len(self), self.dim, self.encoder_digest, self.kb_digest, self._cfg, files)
        write_record(folder, record)

    def copy(self, *, device: str = "cpu") -> "EntityIndex":
        """Return an index in memory with the same entities, which can be changed while this one is searched."""
        with self._lock.writing():
            files = {name: FAISS.deserialize_index(FAISS.serialize_index(index)) for name, index in self._body.files().items()}
            fingerprint = (self.encoder_digest, self.kb_digest)
        backend = wrap(self._cfg, self.kind, files, device=device)
        return EntityIndex(backend, self._cfg, dim=self.dim, fingerprint=fingerprint, read_only=False, threads=self._threads)

    @property
    def kind(self) -> Kind:
        """Kind that was built."""
        return self._body.kind

    @property
    def params(self) -> IndexParams:
        """Settings it was built with."""
        return self._cfg

    @property
    def ids(self) -> Rows:
        """KB rows that are held, rising."""
        with self._lock.reading():
            return np.sort(self._body.map.rows)

    def __len__(self) -> int:
        """Return the number of entities N."""
        return len(self._body)

    def search(
        self,
        q_reps: Floats,
        k: int,
        *,
        within: Sequence[Sequence[int]] | None = None,
        contexts: Sequence[Sequence[str]] | None = None,
    ) -> Hits:
        """Return the best entities of each query.

        Args:
            q_reps: Queries, float32[B, D], L2-normalised.
            k: Entities wanted; K = min(k, N).
            within: KB rows of each query's session (condensed setting): exact inside them. None = the whole KB.
            contexts: Not read: vectors decide. `HybridIndex`, which has the same interface, reads them.

        Returns:
            Hits of [B, K]; fewer than K real ones only where a session has fewer.

        Raises:
            RetrievalError: k below 1, queries that do not fit, a session row that is not held.
        """
        if k < 1:
            raise RetrievalError(f"`k` must be at least 1, but is {k}.")
        queries = _checked(q_reps, dim=self.dim)
        with self._lock.reading():
            return self._search(queries, min(k, len(self)), within)

    def lowest(
        self,
        q_reps: Floats,
        *,
        exclude: Sequence[Sequence[int]],
        within: Sequence[Sequence[int]] | None = None,
        contexts: Sequence[Sequence[str]] | None = None,
    ) -> Rows:
        """Return the KB row with the lowest score of each query: the negative entity (§3.5 of MK-TOD).

        It is the best hit of −q. So it is exact for `flat` and within sessions; the other kinds look where −q leads, and may
        return an entity that is merely among the lowest.

        Args:
            q_reps: Queries, float32[B, D].
            exclude: KB rows that must not be returned (the retrieved ones), for each query.
            within: KB rows of each query's session; None = the whole KB.
            contexts: As in `search`.

        Returns:
            int64[B]; −1 where every entity is excluded.
        """
        queries = _checked(q_reps, dim=self.dim)
        _same_length("exclude", len(exclude), len(queries))
        most = max((len(set(rows)) for rows in exclude), default=0)
        with self._lock.reading():
            hits = self._search(-queries, min(most + 1, len(self)), within)
        left = ([row for row, _ in hits.of(b) if row not in rows] for b, rows in enumerate(map(set, exclude)))
        return np.array([rows[0] if rows else -1 for rows in left], dtype=np.int64)

    def scores(self, q_reps: Floats, rows: Rows, *, contexts: Sequence[Sequence[str]] | None = None) -> Floats:
        """Return the scores of given entities `rows` [B, W], float32[B, W]; −inf where the row is −1; `contexts` as in `search`.

        Raises:
            RetrievalError: A row is not held.
        """
        queries = _checked(q_reps, dim=self.dim)
        with self._lock.reading():
            self._body.map.slots(rows[rows >= 0])
            return score_rows(self._body, queries, rows)

    def reconstruct(self, ids: npt.ArrayLike) -> Floats:
        """Return the embeddings of KB rows [M] as they were given, float32[M, D].

        Raises:
            RetrievalError: A row is not held.
        """
        rows = np.asarray(ids, dtype=np.int64)
        with self._lock.reading():
            self._body.map.slots(rows)
            return self._body.vectors(rows)

    def add(self, ids: npt.ArrayLike, e_reps: Floats, *, kb_digest: str | None = None) -> None:
        """Add entities; cells stay as they were learned.

        Args:
            ids: KB rows, int64[M], not held yet.
            e_reps: Embeddings, float32[M, D].
            kb_digest: Digest of the knowledge base after the change; None = unchanged.

        Raises:
            RetrievalError: A row is held already, the embeddings do not fit, or the index is read-only.
        """
        e_reps = _checked(e_reps, dim=self.dim)
        rows = self._rows(ids, num=len(e_reps))
        with self._lock.writing():
            held = rows[self._body.map.known(rows)]
            if len(held):
                raise RetrievalError(f"KB row {held[0]} is in the index already. Use `update` to replace its embedding.")
            with faiss_threads(self._threads):
                self._body.add(rows, e_reps)
            self.kb_digest = kb_digest or self.kb_digest

    def update(
        self, ids: npt.ArrayLike, e_reps: Floats, *, encoder_digest: str | None = None, kb_digest: str | None = None
    ) -> None:
        """Replace embeddings, at a cost that grows with the changed entities only (index refresh).

        The cells of `ivf` and `pq` stay as they were learned: rebuild once the encoder has changed substantially.

        Args:
            ids: KB rows, int64[M], held already.
            e_reps: Embeddings, float32[M, D].
            encoder_digest: Digest of the encoder now; None = unchanged.
            kb_digest: Digest of the knowledge base now; None = unchanged.

        Raises:
            RetrievalError: A row is not held, the kind cannot (`hnsw`), or the index is read-only.
        """
        e_reps = _checked(e_reps, dim=self.dim)
        rows = self._rows(ids, num=len(e_reps))
        with self._lock.writing():
            self._body.map.slots(rows)
            with faiss_threads(self._threads):
                self._body.update(rows, e_reps)
            self.encoder_digest, self.kb_digest = encoder_digest or self.encoder_digest, kb_digest or self.kb_digest

    def remove(self, ids: npt.ArrayLike, *, kb_digest: str | None = None) -> None:
        """Remove entities.

        Args:
            ids: KB rows, int64[M], held.
            kb_digest: Digest of the knowledge base after the change; None = unchanged.

        Raises:
            RetrievalError: A row is not held, the kind cannot (`hnsw`), or the index is read-only.
        """
        rows = np.unique(self._rows(ids, num=None))
        with self._lock.writing():
            self._body.map.slots(rows)
            with faiss_threads(self._threads):
                self._body.remove(rows)
            self.kb_digest = kb_digest or self.kb_digest

    def _search(self, queries: Floats, k: int, within: Sequence[Sequence[int]] | None) -> Hits:
        with faiss_threads(self._threads):
            if within is None and k and len(queries):
                return search_all(self._body, queries, k)
            if within is not None:
                _same_length("within", len(within), len(queries))
                rows = session_rows(within)
                self._body.map.slots(rows[rows >= 0])
                return search_within(self._body, queries, rows, k=k)
            return search_within(self._body, queries, np.empty((len(queries), 0), dtype=np.int64), k=k)

    def _rows(self, ids: npt.ArrayLike, *, num: int | None) -> Rows:
        """Return ids as rows that may be changed; `num` distinct ones, if given."""
        if self.read_only:
            raise RetrievalError("The index is a map of its file and cannot be changed. Load it with `mmap=False`.")
        rows = np.ascontiguousarray(ids, dtype=np.int64)
        if num is not None:
            _same_length("ids", len(rows), num)
        if (rows < 0).any() or (num is not None and len(np.unique(rows)) != num):
            raise RetrievalError("`ids` must be distinct KB rows of 0 and more, one for each embedding.")
        return rows


def _checked(reps: Floats, *, dim: int | None) -> Floats:
    """Return embeddings as contiguous float32 (a memory map stays one) after checking shape and norm."""
    array = np.ascontiguousarray(reps, dtype=np.float32)
    if array.ndim != 2 or not array.shape[1] or dim not in (None, array.shape[1]):
        raise RetrievalError(
            f"Embeddings must have shape [number, {dim or 'width'}], but have {list(array.shape)}. "
            "Queries and entities must come from the same encoder."
        )
    norms = np.vecdot(array, array)
    # One query is checked in plain Python: see `index_search`. Written so that NaN fails as well.
    low, high = (norms.item(), norms.item()) if len(norms) == 1 else (norms.min(initial=1), norms.max(initial=1))
    if not (low >= 1 - 2 * _NORM_TOLERANCE and high <= 1 + 2 * _NORM_TOLERANCE):
        line = int(np.argmin(np.abs(norms - 1) <= 2 * _NORM_TOLERANCE))
        norm = float(np.sqrt(norms[line]))
        raise RetrievalError(f"Embeddings must be finite and L2-normalised, but line {line} has norm {norm:.4g}. Normalise them.")
    return array


def _same_length(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise RetrievalError(f"`{name}` must have one entry for each embedding ({expected}), but has {found}.")
