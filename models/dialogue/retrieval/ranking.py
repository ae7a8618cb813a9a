"""Search results: scored entities, best first, ties by KB row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Hits:
    """The best entities of each query, best first; ties by row.

    Attributes:
        rows: KB rows, int64[B, K]; −1 after the `counts[b]` real ones if a session has fewer than K entities.
        scores: Their scores, float32[B, K]; −inf where the row is −1.
        counts: Real hits of each query, int64[B].
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]

    def of(self, query: int) -> list[tuple[int, float]]:
        """Return (row, score) of the real hits of one query."""
        count = int(self.counts[query])
        rows, scores = self.rows[query, :count], self.scores[query, :count]
        return [(int(r), float(s)) for r, s in zip(rows, scores, strict=True)]


Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def rank(rows: Rows, scores: Floats, *, k: int) -> Hits:
    """Order candidates by score, then by row, and keep `k`.

    Args:
        rows: KB rows, int64[B, F]; −1 where there is no candidate.
        scores: Their scores, float32[B, F].
        k: Columns of the result; padded where F is smaller.

    Returns:
        Hits of [B, k].
    """
    scores = np.where(rows < 0, np.float32(-np.inf), scores)
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    best_rows, best_scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    if order.shape[1] < k:
        pad = ((0, 0), (0, k - order.shape[1]))
        best_rows = np.pad(best_rows, pad, constant_values=-1)
        best_scores = np.pad(best_scores, pad, constant_values=-np.inf)
    return Hits(best_rows, best_scores.astype(np.float32), (best_rows >= 0).sum(axis=1, dtype=np.int64))


def rank_full(rows: Rows, scores: Floats) -> Hits:
    """Order candidates of which none is missing, as `rank` does with `k` = F; quick where they are in order already."""
    num, k = rows.shape
    if not (scores[:, :-1] > scores[:, 1:]).all():
        order = np.lexsort((rows, -scores), axis=-1)
        lines = np.arange(num)[:, None]
        rows, scores = rows[lines, order], scores[lines, order]
    return Hits(rows, scores, np.full(num, k, dtype=np.int64))


def top_rows(scores: Floats, *, k: int) -> Rows:
    """Return the `k` best places of dense scores [N], best first, ties by place; linear in N."""
    k = min(k, len(scores))
    if not k:
        return np.empty(0, dtype=np.int64)
    last = -np.partition(-scores, k - 1)[k - 1]
    above = np.flatnonzero(scores > last)
    tied = np.flatnonzero(scores == last)[: k - len(above)]
    return np.concatenate([above[np.argsort(-scores[above], kind="stable")], tied]).astype(np.int64)


def session_rows(within: Sequence[Sequence[int]]) -> Rows:
    """Return the distinct rows of each session in ascending order, int64[B, W], padded with −1."""
    sessions = [np.unique(np.asarray(rows, dtype=np.int64)) for rows in within]
    table = np.full((len(sessions), max((len(rows) for rows in sessions), default=0)), -1, dtype=np.int64)
    for line, rows in zip(table, sessions, strict=True):
        line[: len(rows)] = rows
    return table


def rank_dense(scores: Iterable[Floats], *, k: int, within: Sequence[Sequence[int]] | None) -> Hits:
    """Order entities by dense scores [N], one array for each query; only one is held at a time.

    Args:
        scores: Score of every entity, for each query.
        k: Columns of the result, at most N.
        within: Rows of each query's session; None = all.
    """
    sessions: Iterable[Rows | None] = repeat(None) if within is None else session_rows(within)
    chosen = [_best(dense, rows, k=k) for dense, rows in zip(scores, sessions, strict=within is not None)]
    empty = np.empty((0, k))
    rows, values = (np.stack([pair[i] for pair in chosen]) if chosen else empty for i in (0, 1))
    return rank(rows.astype(np.int64), values.astype(np.float32), k=k)


def _best(dense: Floats, session: Rows | None, *, k: int) -> tuple[Rows, Floats]:
    if session is None:
        rows = top_rows(dense, k=k)
        return rows, dense[rows]
    # Places of −1 are not looked at: `rank` drops them.
    return session, dense[session]
