"""BM25 over the entities' values: the floor a trained retriever must clear."""

import logging
from collections.abc import Iterator, Sequence

import bm25s  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from models.data.knowledge_base import KnowledgeBase
from models.data.text import ALL_SCRIPTS, TextRule
from models.retrieval.errors import RetrievalError
from models.retrieval.hits import Hits
from models.retrieval.ranking import rank_dense

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
