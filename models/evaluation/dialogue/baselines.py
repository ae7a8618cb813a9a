"""Untrained retrievers: BM25 over entity values, and `Frequency`, which counts an entity's values in the context (§5.3)."""

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence

import bm25s
import numpy as np
import numpy.typing as npt

from models.corpus.text import ALL_SCRIPTS, TextRule
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.value_finder import ValueFinder
from models.dialogue.retrieval.ranking import Hits, rank_dense
from models.errors import RetrievalError

Floats = npt.NDArray[np.float32]


class Bm25:
    """BM25 with idf = ln((N − df + 0.5) / (df + 0.5) + 1); a document is the normalised values of an entity.

    The constant factor k1 + 1 of the textbook form is left out (Lucene's form): the order is the same.
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        *,
        attributes: Sequence[str] | None = None,
        k1: float = 1.5,
        b: float = 0.75,
        rule: TextRule = ALL_SCRIPTS,
    ) -> None:
        """Index the entities.

        Args:
            kb: The knowledge base.
            attributes: Attributes whose values are read; None = all.
            k1: Saturation of repeated words.
            b: Weight of the length.
            rule: What a word is.

        Raises:
            RetrievalError: No entity has a word.
        """
        self._num, self._rule = len(kb), rule
        self._vocab: dict[str, int] = {}
        documents = [self._numbered(words) for words in self._documents(kb, attributes)]
        if not self._vocab:
            raise RetrievalError(f"The {len(kb)} entities must have words in {attributes or 'their attributes'}, but have none.")
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when it is imported
        self._bm25 = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        self._bm25.index((documents, self._vocab), create_empty_token=False, show_progress=False)

    def rank(self, contexts: Sequence[Sequence[str]], k: int, *, within: Sequence[Sequence[int]] | None = None) -> Hits:
        """Rank the entities by every word of the context, repeated words repeatedly.

        Args:
            contexts: Utterances of each query.
            k: Entities wanted; K = min(k, N).
            within: KB rows of each query's session; None = the whole KB.

        Returns:
            Hits of [B, K]; ties by KB row; entities that share no word with the context score 0.
        """
        return rank_dense(map(self._scores, contexts), k=min(k, self._num), within=within)

    def dense_scores(self, contexts: Iterable[Sequence[str]]) -> Iterator[Floats]:
        """Yield the scores of all entities for each query, float32[N]."""
        return map(self._scores, contexts)

    def _documents(self, kb: KnowledgeBase, attributes: Sequence[str] | None) -> Iterator[list[str]]:
        """Yield the words of each entity."""
        for entity in kb.entities:
            values = entity.attributes if attributes is None else {a: entity.attributes.get(a, "") for a in attributes}
            yield self._rule.normalise(" ".join(values.values())).split()

    def _numbered(self, words: Sequence[str]) -> list[int]:
        return [self._vocab.setdefault(word, len(self._vocab)) for word in words]

    def _scores(self, context: Sequence[str]) -> Floats:
        words = self._rule.normalise(" ".join(context)).split()
        known = [self._vocab[word] for word in words if word in self._vocab]
        if not known:
            return np.zeros(self._num, dtype=np.float32)
        scores: Floats = self._bm25.get_scores_from_ids(known)
        return scores


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

    def dense_scores(self, contexts: Iterable[Sequence[str]]) -> Iterator[Floats]:
        """Yield the scores of all entities for each query, float32[N]."""
        return map(self._scores, contexts)

    def _scores(self, context: Sequence[str]) -> Floats:
        found = {number for *_, number in self._finder.spans(self._rule.normalise(" ".join(context)))}
        held = [self._postings[self._starts[n] : self._starts[n + 1]] for n in sorted(found)]
        rows = np.concatenate(held) if held else np.empty(0, dtype=np.int64)
        return np.bincount(rows, minlength=self._num).astype(np.float32)
