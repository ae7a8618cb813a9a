"""The generator's input for a turn: top-K entities of the index, their meta knowledge, and the negative entity (§3.5)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.generators.trainable import TokenBuilder
from models.dialogue.retrieval.hybrid import HybridIndex, SearchIndex
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.dialogue.retrieval.ranking import Hits

NegativeKind = Literal["lowest", "next_rank", "random", "none"]


def negative_rows(
    kind: NegativeKind,
    index: SearchIndex,
    q_reps: npt.NDArray[np.float32],
    *,
    retrieved: Sequence[Sequence[int]],
    wider: Hits | None,
    within: Sequence[Sequence[int]] | None,
    seeds: Sequence[tuple[int, ...]],
    contexts: Sequence[Sequence[str]] | None = None,
) -> list[int | None]:
    """Return the KB row of each turn's negative entity, or None where it has none.

    It is chosen among the entities that the turn could have retrieved: the whole knowledge base or its session. If all of a
    session was retrieved, one from elsewhere in the knowledge base is drawn. If that is exhausted as well (K is the size of the
    knowledge base), the turn has none. The paper does not cover this case.

    Args:
        kind: `lowest` score, `next_rank` (rank K + 1), a `random` one, or `none`.
        index: Searched by `lowest`; holds rows 0 … N − 1.
        q_reps: Queries, float32[B, D].
        retrieved: KB rows given to the generator, for each turn.
        wider: For `next_rank`: hits of at least K + 1.
        within: Sessions; None = the whole knowledge base.
        seeds: Seed of the random draws, for each turn.
        contexts: What the queries encode, for hybrid scoring.
    """
    if kind == "none":
        return [None] * len(retrieved)
    chosen: list[int | None]
    if kind == "lowest":
        lowest = index.lowest(q_reps, exclude=retrieved, within=within, contexts=contexts)
        chosen = [int(row) if row >= 0 else None for row in lowest]
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


Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The entities of B turns, at most W each, best first, the negative one last.

    Attributes:
        rows: KB rows, int64[B, W]; −1 where there is none.
        scores: Scores in the index, float32[B, W]; 0 where there is no entity.
        negative: bool[B, W].
        passages: Meta knowledge and entity as the generator reads them, by turn.
        features: Lexical features of the entities, float32[B, W, F]; None where the score is the cosine.
    """

    rows: Rows
    scores: Floats
    negative: npt.NDArray[np.bool_]
    passages: Sequence[Sequence[Any]]
    features: Floats | None = None


class EntityChooser:
    """Chooses entities by search, in the index given to each call: a refresh replaces it."""

    def __init__(
        self,
        kb: KnowledgeBase,
        *,
        builder: TokenBuilder[Any],
        meta: MetaKnowledge,
        value_index: ValueIndex,
        num_retrieved: int,
        negative: NegativeKind,
        seed: int,
    ) -> None:
        """Take what stays the same throughout a training."""
        self._kb, self._builder, self._meta, self._values = kb, builder, meta, value_index
        self._k, self._negative, self._seed = num_retrieved, negative, seed

    def choose(
        self,
        index: SearchIndex,
        q_reps: Floats,
        *,
        contexts: Sequence[Sequence[str]],
        within: Sequence[Sequence[int]] | None,
        seeds: Sequence[tuple[int, ...]],
        positives: Sequence[int | None] = (),
    ) -> Choice:
        """Return the K best entities of each query and a negative one.

        Args:
            index: To be searched.
            q_reps: float32[B, D].
            contexts: Utterances, for hybrid scoring and the co-occurrence test.
            within: Sessions; None = the whole knowledge base.
            seeds: Seed of the random draws, for each turn.
            positives: KB row that must be among each turn's entities, None = no such row; empty = none for any turn.
        """
        wider = index.search(q_reps, self._k + (self._negative == "next_rank"), within=within, contexts=contexts)
        hits = first(wider, self._k)
        if positives:
            hits = with_positives(hits, positives, seeds=[(self._seed, *seed) for seed in seeds])
        found = [[row for row, _ in first(wider, self._k).of(b)] for b in range(len(q_reps))]
        negatives = negative_rows(
            self._negative,
            index,
            q_reps,
            contexts=contexts,
            # The entity that a positive displaced was retrieved as well.
            retrieved=[list(dict.fromkeys([*rows, *(row for row, _ in hits.of(b))])) for b, rows in enumerate(found)],
            wider=wider,
            within=within,
            seeds=[(self._seed, *seed) for seed in seeds],
        )
        metas = self._meta.annotate(hits, self._kb, contexts, self._values)
        scores = [np.nan] * len(q_reps)
        for b, extra in enumerate(negatives):
            if extra is not None:
                scores[b] = float(index.scores(q_reps[b : b + 1], np.array([[extra]]), contexts=contexts[b : b + 1])[0, 0])
        choice = self._lay_out(hits, metas, negatives, scores)
        return replace(choice, features=index.features(contexts, choice.rows)) if isinstance(index, HybridIndex) else choice

    def _lay_out(
        self, hits: Hits, metas: list[list[EntityMeta]], negatives: Sequence[int | None], scores_of_negatives: Sequence[float]
    ) -> Choice:
        width = max((len(m) + (n is not None) for m, n in zip(metas, negatives, strict=True)), default=0)
        shape = (len(metas), max(width, 1))
        rows, scores, negative = np.full(shape, -1, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        for b, (known, extra, score) in enumerate(zip(metas, negatives, scores_of_negatives, strict=True)):
            found = len(known)
            rows[b, :found], scores[b, :found] = hits.rows[b, :found], hits.scores[b, :found]
            if extra is not None:
                rows[b, found], scores[b, found], negative[b, found] = extra, score, True
                known.append(EntityMeta(found + 1, score, seen=False, negative=True))
        passages = [[self._passage(int(row), m) for row, m in zip(rows[b], known, strict=False)] for b, known in enumerate(metas)]
        return Choice(rows, scores, negative, passages)

    def _passage(self, row: int, meta: EntityMeta) -> Any:
        return self._builder.entity_ids(self._kb[row], self._meta.text(meta))


def with_positives(hits: Hits, positives: Sequence[int | None], *, seeds: Sequence[tuple[int, ...]]) -> Hits:
    """Give each turn's positive, where it was not retrieved, the place and the score of a randomly drawn retrieved entity.

    If it were always the last place, the generator would learn from the meta knowledge to trust the last entity.
    """
    rows = hits.rows.copy()
    for b, (row, seed) in enumerate(zip(positives, seeds, strict=True)):
        count = int(hits.counts[b])
        if row is not None and count and row not in rows[b, :count]:
            rows[b, int(np.random.default_rng([*seed, 1]).integers(count))] = row
    return Hits(rows, hits.scores, hits.counts)


def first(hits: Hits, k: int) -> Hits:
    """Return the `k` best of each query's hits."""
    return Hits(hits.rows[:, :k], hits.scores[:, :k], np.minimum(hits.counts, k))
