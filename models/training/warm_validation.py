"""Recall of a retriever on the validation split, during training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.data.dialogue import Turn
from models.data.knowledge_base import KnowledgeBase
from models.params.index import IndexParams
from models.retrieval.embedding import embed_contexts, embed_entities
from models.retrieval.encoder import Retriever
from models.retrieval.faiss_index import EntityIndex
from models.retrieval.recall_rule import RecallRule

CUTOFFS = (1, 3, 5, 7)
BY_VALUE, BY_ID = "retriever/recall@{}", "retriever/recall_id@{}"


@dataclass(frozen=True, slots=True)
class RecallScores:
    """Recall on the turns that can be scored.

    Attributes:
        by_value: k → share of turns whose gold values all stand in the k best entities (the paper's rule).
        by_id: k → share of turns whose named entities are all among the k best.
        num_by_value: Turns with gold values.
        num_by_id: Turns with named entities.
    """

    by_value: Mapping[int, float]
    by_id: Mapping[int, float]
    num_by_value: int
    num_by_id: int

    @property
    def choice(self) -> float:
        """What the best encoder is chosen by: mean over k = 1, 3, 5, 7 of recall by value (by id where no turn has values).

        One k alone would not do: at 7 most encoders differ by a handful of turns, and 1 is not what the generator is given.
        """
        scores = self.by_value if self.num_by_value else self.by_id
        return float(np.mean(list(scores.values()))) if self.num_by_value or self.num_by_id else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the recalls by metric name; those without a turn are left out."""
        values = {BY_VALUE.format(k): v for k, v in self.by_value.items()} if self.num_by_value else {}
        ids = {BY_ID.format(k): v for k, v in self.by_id.items()} if self.num_by_id else {}
        return values | ids


class WarmValidation:
    """Scores an encoder, and ranks entities for contexts with it."""

    def __init__(
        self, turns: Iterable[Turn], kb: KnowledgeBase, *, device: str, condensed: bool = False, batch_size: int = 64
    ) -> None:
        """Keep the turns that can be scored; `condensed`: each searches its own session, and finds nothing in an empty one."""
        self._turns = [turn for turn in turns if turn.gold_values or turn.gold_entities]
        self._kb, self._rule, self._device, self._batch_size = kb, RecallRule(kb), device, batch_size
        self._sessions = [kb.rows(dict.fromkeys(turn.kb)) for turn in self._turns] if condensed else None
        # The entities of other dialogues need not be embedded.
        self._rows = None if self._sessions is None else sorted({row for rows in self._sessions for row in rows})

    @property
    def num_by_value(self) -> int:
        """Turns with gold values."""
        return sum(bool(turn.gold_values) for turn in self._turns)

    @property
    def num_by_id(self) -> int:
        """Turns with named entities."""
        return sum(bool(turn.gold_entities) for turn in self._turns)

    def score(self, retriever: Retriever) -> tuple[RecallScores, EntityIndex]:
        """Return the recalls and the exact index they were made with (of the encoder as it is now)."""
        index = exact_index(retriever, self._kb, rows=self._rows, device=self._device, batch_size=self._batch_size)
        turns = self._turns
        if not turns:
            return recall_scores(turns, [], self._rule), index
        q_reps = embed_contexts(retriever, [turn.context for turn in turns], batch_size=self._batch_size, device=self._device)
        hits = index.search(q_reps, max(CUTOFFS), within=self._sessions)
        return recall_scores(turns, [[row for row, _ in hits.of(b)] for b in range(len(turns))], self._rule), index


def exact_index(
    retriever: Retriever, kb: KnowledgeBase, *, rows: Sequence[int] | None, device: str, batch_size: int
) -> EntityIndex:
    """Embed entities (None = all) and index them; the index never leaves the training, so it carries no fingerprint."""
    e_reps = embed_entities(retriever, kb, rows=rows, batch_size=batch_size, device=device)
    ids = np.arange(len(kb), dtype=np.int64) if rows is None else np.array(rows, dtype=np.int64)
    return EntityIndex.build(IndexParams(kind="flat"), e_reps, ids=ids, encoder_digest="", kb_digest=kb.digest)


def recall_scores(turns: Sequence[Turn], ranked: Sequence[Sequence[int]], rule: RecallRule) -> RecallScores:
    """Score the ranked rows of each turn (best first, at least the largest k, or all there are)."""
    values = [rule.value_rank(turn, rows) for turn, rows in zip(turns, ranked, strict=True) if turn.gold_values]
    ids = [rule.id_rank(turn, rows) for turn, rows in zip(turns, ranked, strict=True) if turn.gold_entities]
    return RecallScores(_shares(values), _shares(ids), len(values), len(ids))


def _shares(ranks: Sequence[int | None]) -> dict[int, float]:
    return {k: float(np.mean([rank is not None and rank <= k for rank in ranks])) if ranks else 0.0 for k in CUTOFFS}
