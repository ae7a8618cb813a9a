"""Counting an entity's values in the context: the strongest floor, without training (`Frequency` in §5.3 of MK-TOD)."""

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.data.knowledge_base import KnowledgeBase
from models.data.text import ALL_SCRIPTS, TextRule
from models.data.value_finder import ValueFinder
from models.retrieval.hits import Hits
from models.retrieval.ranking import rank_dense

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Frequency:
    """Score = number of distinct values of the entity that stand in the context as whole words.

    Values are found by an inverted index: a query costs its words and the entities that have the values found.
    """

    def __init__(self, kb: KnowledgeBase, *, attributes: Sequence[str] | None = None, rule: TextRule = ALL_SCRIPTS) -> None:
        """Index the values of `attributes` (None = all): 8 bytes for each value of an entity, and the distinct values."""
        self._num, self._rule = len(kb), rule
        self._finder = ValueFinder()
        rows, numbers = array("q"), array("q")
        for row, entity in enumerate(kb.entities):
            values = entity.attributes.items()
            distinct = {rule.normalise(value) for name, value in values if attributes is None or name in attributes}
            for value in sorted(distinct - {""}):
                rows.append(row)
                numbers.append(self._finder.add(value))
        order = np.argsort(np.array(numbers, dtype=np.int64), kind="stable")
        self._postings = np.array(rows, dtype=np.int64)[order]
        self._starts = np.searchsorted(np.array(numbers, dtype=np.int64)[order], np.arange(len(self._finder) + 1))

    def rank(self, contexts: Sequence[Sequence[str]], k: int, *, within: Sequence[Sequence[int]] | None = None) -> Hits:
        """Rank the entities by the number of their values in the context.

        Args:
            contexts: Utterances of each query.
            k: Entities wanted; K = min(k, N).
            within: KB rows of each query's session; None = the whole KB.

        Returns:
            Hits of [B, K]; ties by KB row.
        """
        return rank_dense(map(self._scores, contexts), k=min(k, self._num), within=within)

    def _scores(self, context: Sequence[str]) -> Floats:
        found = {number for *_, number in self._finder.spans(self._rule.normalise(" ".join(context)))}
        held = [self._postings[self._starts[n] : self._starts[n + 1]] for n in sorted(found)]
        rows = np.concatenate(held) if held else np.empty(0, dtype=np.int64)
        return np.bincount(rows, minlength=self._num).astype(np.float32)
