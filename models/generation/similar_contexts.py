"""Which of many dialogue contexts resemble one: BM25 over their words."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models.data.text import normalise

_K1, _B = 1.5, 0.75


class SimilarContexts:
    """A sparse matrix of BM25 weights, one row a context: a few bytes for each distinct word of each context."""

    def __init__(self, contexts: Iterable[Sequence[str]]) -> None:
        """Count the words of every context (read once, in order)."""
        self._columns: dict[str, int] = {}
        indptr, columns, counts = [0], [], []
        for context in contexts:
            for word, count in Counter(normalise(" ".join(context)).split()).items():
                columns.append(self._columns.setdefault(word, len(self._columns)))
                counts.append(count)
            indptr.append(len(columns))
        shape = (len(indptr) - 1, len(self._columns))
        words = csr_array((np.array(counts, np.float64), np.array(columns, np.int64), np.array(indptr, np.int64)), shape=shape)
        self._weights = _weigh(words)

    def __len__(self) -> int:
        """Return the number of contexts."""
        return int(self._weights.shape[0])

    def scores(self, context: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the BM25 score of every context, float64[N]; words count as often as the query has them."""
        query = np.zeros(len(self._columns))
        for word, count in Counter(normalise(" ".join(context)).split()).items():
            if word in self._columns:
                query[self._columns[word]] = count
        scores: npt.NDArray[np.float64] = self._weights @ query
        return scores


def _weigh(words: csr_array) -> csr_array:
    """Turn counts [N, V] into idf · tf·(k1 + 1) / (tf + k1·(1 − b + b·length/mean length)), in place."""
    lengths = words.sum(axis=1)
    mean = float(lengths.mean()) if len(lengths) else 1.0
    seen_in = np.bincount(words.indices, minlength=words.shape[1])
    idf = np.log((words.shape[0] - seen_in + 0.5) / (seen_in + 0.5) + 1)
    norm = np.repeat(_K1 * (1 - _B + _B * lengths / max(mean, 1.0)), np.diff(words.indptr))
    words.data = idf[words.indices] * words.data * (_K1 + 1) / (words.data + norm)
    return words
