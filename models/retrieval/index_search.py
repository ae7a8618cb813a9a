"""Searching an index body: candidates, true scores, order."""

import numpy as np
import numpy.typing as npt

from models.retrieval.hits import Hits
from models.retrieval.index_body import IndexBody
from models.retrieval.ranking import rank, top_rows

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Floats of the vectors that are scored at a time (16 MiB), whatever the batch, k and session size.
_CHUNK_FLOATS = 1 << 22
# FAISS' own scores depend on the batch in their last bits. So a few more candidates than wanted are scored here, and a tie
# that may go on behind the last of them is settled over all entities.
_MORE, _TIE = 16, 1e-6


def score_rows(body: IndexBody, queries: Floats, rows: Rows) -> Floats:
    """Return the inner products of queries [B, D] and the entities `rows` [B, F]; −inf where the row is −1.

    A score depends on the two vectors only: not on the batch, the kind of index or the place.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    lines, columns = np.nonzero(rows >= 0)
    step = max(1, _CHUNK_FLOATS // queries.shape[1])
    for start in range(0, len(lines), step):
        line, column = lines[start : start + step], columns[start : start + step]
        vectors = body.vectors(rows[line, column])
        scores[line, column] = np.einsum("pd,pd->p", queries[line], vectors)
    return scores


def search_all(body: IndexBody, queries: Floats, k: int) -> Hits:
    """Return the `k` best entities of each query [B, D]; `k` is at most the number of entities."""
    wanted = min(len(body), k + _MORE)
    rows = body.candidates(queries, wanted, thorough=k == len(body))
    short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
    if len(short):
        rows[short] = body.candidates(queries[short], wanted, thorough=True)
    every = rank(rows, score_rows(body, queries, rows), k=rows.shape[1])
    hits = Hits(every.rows[:, :k], every.scores[:, :k], np.minimum(every.counts, k))
    if body.exact and wanted < len(body):
        for query in np.flatnonzero(every.scores[:, -1] >= every.scores[:, k - 1] - _TIE):
            hits.rows[query], hits.scores[query] = _scan(body, queries[query], k)
    return hits


def search_within(body: IndexBody, queries: Floats, rows: Rows, *, k: int) -> Hits:
    """Return the `k` best of the entities `rows` [B, W] (−1: none) of each query, exactly."""
    return rank(rows, score_rows(body, queries, rows), k=k)


def _scan(body: IndexBody, query: Floats, k: int) -> tuple[Rows, Floats]:
    """Return rows and scores of the `k` best of all entities."""
    rows = np.sort(body.map.rows)
    scores = score_rows(body, query[None], rows[None])[0]
    best = top_rows(scores, k=k)
    return rows[best], scores[best]
