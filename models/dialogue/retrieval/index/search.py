"""Searching an index backend: candidates, true scores, order."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.dialogue.retrieval.index.backend import Candidates, IndexBackend
from models.dialogue.retrieval.ranking import Hits, rank, rank_full, top_rows

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Floats of the vectors that are scored at a time (16 MiB), whatever the batch, k and session size.
_CHUNK_FLOATS = 1 << 22
# FAISS' own scores depend on the batch in their last bits (unit vectors: under 2e-6). So the entities it puts first are scored
# here; where the next one may tie with the last of them, a few more are; and a tie that may go on behind those is settled
# over all entities.
_MORE, _TIE = 16, 4e-6


def score_rows(backend: IndexBackend, queries: Floats, rows: Rows) -> Floats:
    """Return the inner products of queries [B, D] and the entities `rows` [B, F]; −inf where the row is −1.

    A score depends on the two vectors only: not on the batch, the kind of index or the place.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    lines, columns = np.nonzero(rows >= 0)
    step = max(1, _CHUNK_FLOATS // queries.shape[1])
    for start in range(0, len(lines), step):
        line, column = lines[start : start + step], columns[start : start + step]
        scores[line, column] = np.vecdot(queries[line], backend.vectors(rows[line, column]))
    return scores


def search_all(backend: IndexBackend, queries: Floats, k: int) -> Hits:
    """Return the `k` best entities of each query [B, D]; `k` is at least 1, at most the number of entities."""
    if len(queries) == 1 and backend.by_vector and k < len(backend):
        return _search_one(backend, queries, k)
    step = max(1, _CHUNK_FLOATS // ((k + _MORE) * queries.shape[1]))
    if len(queries) <= step:
        return _search(backend, queries, k)
    parts = [_search(backend, queries[start : start + step], k) for start in range(0, len(queries), step)]
    return Hits(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "scores", "counts")))


def search_within(backend: IndexBackend, queries: Floats, rows: Rows, *, k: int) -> Hits:
    """Return the `k` best of the entities `rows` [B, W] (−1: none) of each query, exactly."""
    return rank(rows, score_rows(backend, queries, rows), k=k)


def _search_one(backend: IndexBackend, query: Floats, k: int) -> Hits:
    """Search for one query [1, D], `k` < N.

    As `_search`, in fewer steps where FAISS found enough, in their true order and without a tie, as it does almost always:
    after a search, the processor's cache is full of vectors, and each further array operation costs ten times its usual time.
    """
    found = backend.near(query, min(len(backend), k + _MORE))
    last, following = found.scores[0, k - 1 : k + 1].tolist()
    if following >= last - _TIE or found.rows.item(k - 1) < 0:
        return _finished(backend, query, found, k)
    scores = np.vecdot(backend.vectors(found.rows[0, :k]) if found.vectors is None else found.vectors[0, :k], query)
    if any(a <= b for a, b in pairwise(scores.tolist())):
        return _finished(backend, query, found, k)
    return Hits(found.rows[:, :k], scores[None], np.array([k]))


def _search(backend: IndexBackend, queries: Floats, k: int) -> Hits:
    return _finished(backend, queries, backend.near(queries, min(len(backend), k + _MORE), thorough=k == len(backend)), k)


def _finished(backend: IndexBackend, queries: Floats, found: Candidates, k: int) -> Hits:
    """Make hits of the candidates of each query."""
    wanted = min(len(backend), k + _MORE)
    if found.rows[:, k - 1].min() < 0:
        found = _completed(backend, queries, found, k, wanted=wanted)
    if not backend.by_vector:
        return rank(found.rows, score_rows(backend, queries, found.rows), k=k)
    hits = _ranked(backend, queries, found, k)
    if wanted > k:
        tied = found.scores[:, k] >= found.scores[:, k - 1] - _TIE
        if tied.any():
            _settle(backend, queries, found, hits, lines=np.flatnonzero(tied))
    return hits


def _completed(backend: IndexBackend, queries: Floats, found: Candidates, k: int, *, wanted: int) -> Candidates:
    """Search thoroughly for the queries for which fewer than `k` entities were found."""
    short = np.flatnonzero(found.rows[:, k - 1] < 0)
    again = backend.near(queries[short], wanted, thorough=True)
    found.rows[short], found.scores[short] = again.rows, again.scores
    if found.vectors is not None and again.vectors is not None:
        found.vectors[short] = again.vectors
        return found
    return Candidates(found.rows, found.scores)


def _ranked(backend: IndexBackend, queries: Floats, found: Candidates, k: int) -> Hits:
    """Rank the first `k` of what was found by their true scores; all of them are entities."""
    rows = found.rows[:, :k]
    if found.vectors is None:
        vectors = backend.vectors(rows.ravel()).reshape(*rows.shape, -1)
    else:
        vectors = found.vectors[:, :k]
    return rank_full(rows, np.vecdot(vectors, queries[:, None]))


def _settle(backend: IndexBackend, queries: Floats, found: Candidates, hits: Hits, *, lines: Rows) -> None:
    """Rank more candidates for the queries `lines`, and all entities where even those may not reach the end of a tie."""
    k = hits.rows.shape[1]
    rows = found.rows[lines]
    wider = rank(rows, score_rows(backend, queries[lines], rows), k=k)
    hits.rows[lines], hits.scores[lines] = wider.rows, wider.scores
    if backend.exact and rows.shape[1] < len(backend):
        for line in lines[found.scores[lines, -1] >= found.scores[lines, k - 1] - _TIE]:
            hits.rows[line], hits.scores[line] = _scan(backend, queries[line], k)


def _scan(backend: IndexBackend, query: Floats, k: int) -> tuple[Rows, Floats]:
    """Return rows and scores of the `k` best of all entities."""
    rows = np.sort(backend.map.rows)
    scores = score_rows(backend, query[None], rows[None])[0]
    best = top_rows(scores, k=k)
    return rows[best], scores[best]
