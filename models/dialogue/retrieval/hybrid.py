"""Hybrid scoring: s = d · cos(h_c, h_e) + τ · Σ_f v_f · x_f with lexical features x of an entity and learnt weights d and v."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.lexical import FEATURES, PARTS, LexicalIndex, LexicalQuery, lexical_features
from models.dialogue.retrieval.ranking import Hits, rank, session_rows
from models.params.index import IndexParams

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
# Of entities that tie lexically at the end of the candidates, so many times `candidates` are looked at.
_MOST_TIED = 4
_TOGETHER = 256  # queries whose candidates are held at a time
# What a fit of the weights does not change: an encoder that cannot tell entities apart yet still breaks ties.
LEAST_DENSE = 0.02


@dataclass(frozen=True, slots=True)
class ScoreWeights:
    """The weights of a score, as search uses them.

    Attributes:
        dense: d, of the cosine.
        lexical: τ · v, float32[F], in units of the score.
    """

    dense: float
    lexical: Floats


class HybridScorer(nn.Module):
    """The trainable weights of a score.

    Attributes:
        dense: d, scalar.
        lexical: v, float32[F], in nats of the warm start's softmax.
        unit: τ of the warm start, which makes them units of the score; it is stored with the weights.
    """

    unit: Tensor

    def __init__(self, *, temperature: float) -> None:
        """Start from word matching: a name and each value count alike, and the cosine breaks ties."""
        super().__init__()
        self.dense = nn.Parameter(torch.tensor(LEAST_DENSE))
        self.lexical = nn.Parameter(torch.tensor([float(name in ("name", "value")) for name in FEATURES]))
        self.register_buffer("unit", torch.tensor(temperature))

    def forward(self, cosines: Tensor, features: Tensor) -> Tensor:
        """Return s, float32[…], of cosines […] and features […, F]."""
        return self.dense * cosines + self.unit * (features @ self.lexical)

    def weights(self) -> ScoreWeights:
        """Return a copy of the weights as they are now."""
        lexical: Floats = (self.unit * self.lexical).detach().float().cpu().numpy().copy()
        return ScoreWeights(float(self.dense.detach()), lexical)

    def figures(self) -> dict[str, float]:
        """Return d and v by name."""
        return {"dense": float(self.dense.detach()), **dict(zip(FEATURES, self.lexical.detach().tolist(), strict=True))}


class HybridIndex:
    """Ranks entities by the hybrid score: candidates by vector and by inverted lists, scored exactly.

    It has the interface of `EntityIndex`, but for changes, and reads the contexts of the queries as well. A knowledge base of at
    most `retriever.lexical.candidates` entities, or a session, is scored whole. In a larger one an entity is missed that is among
    the candidates of neither kind.

    Attributes:
        dense: The index of the vectors.
        lexical: The inverted lists.
        weights: Those of the score.
    """

    def __init__(self, dense: EntityIndex, lexical: LexicalIndex, weights: ScoreWeights) -> None:
        """Join the parts; both indexes hold rows 0 to N − 1 of one knowledge base."""
        self.dense, self.lexical, self.weights = dense, lexical, weights

    def __len__(self) -> int:
        """Return the number of entities N."""
        return len(self.dense)

    @property
    def params(self) -> IndexParams:
        """Settings of the index of the vectors."""
        return self.dense.params

    @property
    def encoder_digest(self) -> str:
        """Retriever it was built with."""
        return self.dense.encoder_digest

    @property
    def kb_digest(self) -> str:
        """The knowledge base."""
        return self.dense.kb_digest

    def search(
        self,
        q_reps: Floats,
        k: int,
        *,
        within: Sequence[Sequence[int]] | None = None,
        contexts: Sequence[Sequence[str]] | None = None,
    ) -> Hits:
        """Return the best entities of each query; as `EntityIndex.search`, with the contexts that the queries encode."""
        k = min(k, len(self))
        found = [
            rank(rows[None], self._scores(q_reps[b], rows, query)[None], k=k)
            for b, (query, rows) in enumerate(self._pools(q_reps, k, within, _given(contexts, q_reps)))
        ]
        shape = (0, k)
        return Hits(
            np.concatenate([hits.rows for hits in found] or [np.empty(shape, dtype=np.int64)]),
            np.concatenate([hits.scores for hits in found] or [np.empty(shape, dtype=np.float32)]),
            np.concatenate([hits.counts for hits in found] or [np.empty(0, dtype=np.int64)]),
        )

    def lowest(
        self,
        q_reps: Floats,
        *,
        exclude: Sequence[Sequence[int]],
        within: Sequence[Sequence[int]] | None = None,
        contexts: Sequence[Sequence[str]] | None = None,
    ) -> Rows:
        """Return the row with the lowest score of each query, as `EntityIndex.lowest`; the candidates are those of −q."""
        lowest = []
        given = _given(contexts, q_reps)
        most = max((len(set(rows)) for rows in exclude), default=0) + 1
        for b, (query, rows) in enumerate(self._pools(-q_reps, most, within, given, lexical=False)):
            left = rows[~np.isin(rows, list(exclude[b]))]
            scores = self._scores(q_reps[b], left, query)
            lowest.append(int(left[np.lexsort((left, scores))[0]]) if len(left) else -1)
        return np.array(lowest, dtype=np.int64)

    def scores(self, q_reps: Floats, rows: Rows, *, contexts: Sequence[Sequence[str]] | None = None) -> Floats:
        """Return the scores of given entities `rows` [B, W], float32[B, W]; −inf where the row is −1."""
        queries = map(self.lexical.query, _given(contexts, q_reps))
        scored = [_padded(self._scores(q_reps[b], rows[b], query), rows[b]) for b, query in enumerate(queries)]
        return np.stack(scored) if scored else np.empty(rows.shape, dtype=np.float32)

    def features(self, contexts: Sequence[Sequence[str]], rows: Rows) -> Floats:
        """Return the lexical features of `rows` [B, W] (−1: none, all 0), float32[B, W, F]."""
        return lexical_features(self.lexical, contexts, rows)

    def parts(self, contexts: Sequence[Sequence[str]], hits: Hits) -> list[list[Mapping[str, float]]]:
        """Return what each hit's score is made of, by query: `dense`, `name`, `value` and `bm25`, which add up to it."""
        gains = self.features(contexts, hits.rows) * self.weights.lexical
        return [[self._split(score, gains[b, at]) for at, (_, score) in enumerate(hits.of(b))] for b in range(len(contexts))]

    def _split(self, score: float, gains: Floats) -> dict[str, float]:
        lexical = {part: float(gains[list(columns)].sum()) for part, columns in PARTS.items()}
        return {"dense": score - sum(lexical.values()), **lexical}

    def _pools(
        self,
        q_reps: Floats,
        k: int,
        within: Sequence[Sequence[int]] | None,
        contexts: Sequence[Sequence[str]],
        *,
        lexical: bool = True,
    ) -> Iterator[tuple[LexicalQuery, Rows]]:
        """Yield each query's terms and the rows to be scored for it."""
        if within is not None:
            for context, rows in zip(contexts, session_rows(within), strict=True):
                yield self.lexical.query(context), rows[rows >= 0]
            return
        most = max(self.lexical.cfg.candidates, k)
        if len(self) <= most:
            every = self.dense.ids
            for context in contexts:
                yield self.lexical.query(context), every
            return
        sign = 1 if self.weights.dense >= 0 else -1
        for start in range(0, len(contexts), _TOGETHER):
            near = self.dense.search(sign * q_reps[start : start + _TOGETHER], most).rows
            for rows, context in zip(near, contexts[start : start + _TOGETHER], strict=True):
                query = self.lexical.query(context)
                named = self.lexical.best(query, self.weights.lexical, most)[: _MOST_TIED * most] if lexical else rows[:0]
                yield query, np.union1d(rows, named)

    def _scores(self, q_rep: Floats, rows: Rows, query: LexicalQuery) -> Floats:
        features = self.lexical.features(query, rows)
        scores: Floats = self.weights.dense * self.dense.scores(q_rep[None], rows[None])[0] + features @ self.weights.lexical
        return scores


SearchIndex = EntityIndex | HybridIndex


def vectors_of(index: SearchIndex) -> EntityIndex:
    """Return the index of the vectors."""
    return index.dense if isinstance(index, HybridIndex) else index


def score_parts(index: SearchIndex, contexts: Sequence[Sequence[str]], hits: Hits) -> list[list[Mapping[str, float]]]:
    """Return what each hit's score is made of, by query (`HybridIndex.parts`); nothing where the score is the cosine."""
    return index.parts(contexts, hits) if isinstance(index, HybridIndex) else [[{}] * int(count) for count in hits.counts]


def _given(contexts: Sequence[Sequence[str]] | None, q_reps: Floats) -> Sequence[Sequence[str]]:
    if contexts is None or len(contexts) != len(q_reps):
        count = "none" if contexts is None else len(contexts)
        raise ValueError(f"hybrid scoring needs the context of each of the {len(q_reps)} queries, but was given {count}")
    return contexts


def _padded(scores: Floats, rows: Rows) -> Floats:
    return np.where(rows < 0, np.float32(-np.inf), scores).astype(np.float32)
