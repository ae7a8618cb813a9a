"""Demonstrations for in-context learning: training turns whose context resembles (BM25) the one to be answered."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models.corpus.text import normalise
from models.dialogue.data.records import Turn
from models.dialogue.generators.base import DialogueItem, RetrievedEntity

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


Retrieve = Callable[[Sequence[Turn]], Sequence[Sequence[RetrievedEntity]]]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A training turn with what was retrieved for it: the model sees how an answer takes its values from the entities."""

    turn: Turn
    entities: tuple[RetrievedEntity, ...] = ()


class DemonstrationPool:
    """The training turns to choose from.

    A demonstration shows its own best retrieved entities, by default the top 3 of them: without any, it would teach a model to
    invent values; with all, two demonstrations would take most of a prompt. Retrieval happens for chosen turns only, once each.
    """

    def __init__(self, turns: Iterable[Turn], *, retrieve: Retrieve | None = None, num_entities: int = 3) -> None:
        """Read the turns; API calls do not demonstrate a response.

        Args:
            turns: Training turns.
            retrieve: Retrieves for turns (`DialogueAgent.retrieve_turns`); None = demonstrations without entities.
            num_entities: Best ranked entities shown with each.
        """
        self._turns = [t for t in turns if t.kind == "response" and t.response.strip()]
        self._similar = SimilarContexts(t.context for t in self._turns)
        self._domains = np.array([t.domain for t in self._turns], dtype=object)
        self._retrieve, self._num_entities = retrieve, num_entities
        self._entities: dict[int, tuple[RetrievedEntity, ...]] = {}

    def pick(self, items: Sequence[DialogueItem], count: int) -> list[tuple[Demonstration, ...]]:
        """Return up to `count` demonstrations for each item, most similar context first, from different dialogues.

        They are of the item's domain (of any, where the training data has no such domain) and never of its own dialogue; ties
        keep the order of the training data.
        """
        if count == 0 or not self._turns:
            return [() for _ in items]
        chosen = [self._choose(item, count) for item in items]
        self._fill({place for places in chosen for place in places})
        return [tuple(Demonstration(self._turns[p], self._entities.get(p, ())) for p in places) for places in chosen]

    def _choose(self, item: DialogueItem, count: int) -> list[int]:
        allowed = np.flatnonzero(self._domains == item.domain)
        allowed = allowed if len(allowed) else np.arange(len(self._turns))
        scores = self._similar.scores(item.context)[allowed]
        taken = {item.dialogue} if item.dialogue else set()
        places: list[int] = []
        for place in allowed[np.argsort(-scores, kind="stable")].tolist():
            if self._turns[place].dialogue not in taken:
                taken.add(self._turns[place].dialogue)
                places.append(place)
            if len(places) == count:
                break
        return places

    def _fill(self, places: set[int]) -> None:
        """Retrieve for the turns that were not chosen before."""
        new = sorted(places - self._entities.keys())
        if self._retrieve is None or not new:
            return
        found = self._retrieve([self._turns[p] for p in new])
        self._entities.update((p, tuple(e[: self._num_entities])) for p, e in zip(new, found, strict=True))
