"""What every kind of index can do, whatever FAISS class is behind it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.retrieval.errors import RetrievalError
from models.retrieval.row_map import RowMap

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Kind = Literal["flat", "ivf", "hnsw", "pq"]


class Found(NamedTuple):
    """What FAISS found.

    Attributes:
        rows: KB rows, int64[B, F], best first; −1 behind them where fewer were found.
        scores: FAISS' own scores, float32[B, F], falling.
        vectors: Their vectors, float32[B, F, D], where FAISS has them at hand; None = to be looked up.
    """

    rows: Rows
    scores: Floats
    vectors: Floats | None = None


class IndexBody(ABC):
    """Entities in one FAISS index.

    Attributes:
        kind: `flat`, `ivf`, `hnsw` or `pq`.
        exact: Whether a search sees every entity.
        by_vector: Whether FAISS scores the vectors themselves, so that its order is right up to rounding.
        map: KB rows that are held.
    """

    kind: Kind
    exact = False
    by_vector = True
    map: RowMap

    def __len__(self) -> int:
        """Return the number of entities."""
        return len(self.map)

    @abstractmethod
    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Found:
        """Return what is near each query [B, D], F ≥ `num` candidates.

        Args:
            queries: The queries, contiguous.
            num: How many are wanted, at most the number of entities.
            thorough: Look everywhere, so that `num` are found.
        """

    @abstractmethod
    def vectors(self, rows: Rows) -> Floats:
        """Return the vectors of `rows` [M], which must be held, as they were given, float32[M, D]."""

    @abstractmethod
    def add(self, rows: Rows, e_reps: Floats) -> None:
        """Take in entities that are not held yet."""

    @abstractmethod
    def files(self) -> Mapping[str, Any]:
        """Return the FAISS indexes to be stored, by file name."""

    def update(self, rows: Rows, e_reps: Floats) -> None:
        """Replace the vectors of held entities."""
        raise self._cannot("update")

    def remove(self, rows: Rows) -> None:
        """Drop held entities."""
        raise self._cannot("remove")

    def _cannot(self, what: str) -> RetrievalError:
        return RetrievalError(
            f"`index.kind` must be `flat`, `ivf` or `pq` to {what} entities, but is `{self.kind}`, whose graph can only grow. "
            "Build the index again from all embeddings, or choose another kind."
        )
