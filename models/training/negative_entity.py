"""The negative entity of training (§3.5 of MK-TOD): one more input for the generator that was not retrieved."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.retrieval.faiss_index import EntityIndex
from models.retrieval.hits import Hits

NegativeKind = Literal["lowest", "next_rank", "random", "none"]


def negative_rows(
    kind: NegativeKind,
    index: EntityIndex,
    q_reps: npt.NDArray[np.float32],
    *,
    retrieved: Sequence[Sequence[int]],
    wider: Hits | None,
    within: Sequence[Sequence[int]] | None,
    seeds: Sequence[tuple[int, ...]],
) -> list[int | None]:
    """Return the KB row of each turn's negative entity, or None where it has none.

    It is chosen among what the turn could have retrieved: the whole knowledge base or its session. A session of which everything
    was retrieved leaves no entity; then one from elsewhere in the knowledge base is drawn. Where that, too, is exhausted (K is
    the size of the knowledge base), the turn goes without: the paper is silent on this.

    Args:
        kind: `lowest` score, `next_rank` (rank K + 1), a `random` one, or `none`.
        index: Searched by `lowest`; holds rows 0 … N − 1.
        q_reps: Queries, float32[B, D].
        retrieved: KB rows given to the generator, for each turn.
        wider: For `next_rank`: hits of at least K + 1.
        within: Sessions; None = the whole knowledge base.
        seeds: Of what is drawn, for each turn.
    """
    if kind == "none":
        return [None] * len(retrieved)
    chosen: list[int | None]
    if kind == "lowest":
        chosen = [int(row) if row >= 0 else None for row in index.lowest(q_reps, exclude=retrieved, within=within)]
    elif kind == "next_rank":
        assert wider is not None
        chosen = [next((row for row, _ in wider.of(b) if row not in set(rows)), None) for b, rows in enumerate(retrieved)]
    else:
        pools = [None] * len(retrieved) if within is None else within
        chosen = [_draw(len(index), rows, pool=pool, seed=seed) for rows, pool, seed in zip(retrieved, pools, seeds, strict=True)]
    if within is not None:
        for b, row in enumerate(chosen):
            if row is None:
                chosen[b] = _draw(len(index), {*within[b], *retrieved[b]}, pool=None, seed=seeds[b])
    return chosen


def _draw(num: int, excluded: Collection[int], *, pool: Sequence[int] | None, seed: tuple[int, ...]) -> int | None:
    """Draw one of `pool` (None: of 0 … num − 1) that is not excluded, evenly; None where there is none."""
    rng = np.random.default_rng(seed)
    if pool is not None:
        left = sorted(set(pool) - set(excluded))
        return left[int(rng.integers(len(left)))] if left else None
    taken = sorted(set(excluded))
    if len(taken) >= num:
        return None
    row = int(rng.integers(num - len(taken)))
    for other in taken:  # the r-th row that is not taken
        row += row >= other
    return row
