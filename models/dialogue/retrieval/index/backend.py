"""Interface of index backends, independent of the FAISS class, and the map from slots to KB rows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import RetrievalError

Rows = npt.NDArray[np.int64]
# A table over all rows from the lowest to the highest is quickest, unless it would be mostly holes.
_MOST_HOLES, _SMALL = 4, 4096


class RowMap:
    """Which slot holds which KB row.

    Bytes a row: 8 where the rows rise one by one (a whole knowledge base), 16 in another order, 24 where they are scattered.

    Attributes:
        rows: int64[N], the KB row in each slot.
        first: The lowest row.
        straight: Whether the rows rise one by one: slot = row − first.
    """

    def __init__(self, rows: Rows) -> None:
        """Index the rows.

        Raises:
            RetrievalError: A row occurs twice.
        """
        self.rows = np.ascontiguousarray(rows, dtype=np.int64)
        self.first = int(self.rows.min()) if len(self.rows) else 0
        self._span = int(self.rows.max()) - self.first + 1 if len(self.rows) else 0
        self.straight = self._span == len(self.rows) and bool((np.diff(self.rows) == 1).all())
        # Slots by row − first, −1 in holes; and of scattered rows the order, and the rows in it.
        self._table: Rows | None = None
        self._order: Rows | None = None
        self._sorted = np.empty(0, dtype=np.int64)
        if self._span > _MOST_HOLES * len(self.rows) + _SMALL:
            self._order = np.argsort(self.rows, kind="stable")
            self._sorted = self.rows[self._order]
            self._refuse(self._sorted[1:][self._sorted[1:] == self._sorted[:-1]])
        elif not self.straight:
            self._table = np.full(self._span, -1, dtype=np.int64)
            self._table[self.rows - self.first] = np.arange(len(self.rows))
            self._refuse(self.rows[self._table[self.rows - self.first] != np.arange(len(self.rows))])

    def __len__(self) -> int:
        return len(self.rows)

    def known(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which of `rows` (any shape) are held."""
        places = rows - self.first
        known: npt.NDArray[np.bool_] = (places >= 0) & (places < self._span)
        if self._order is not None:
            known &= self._sorted[self._ranks(rows)] == rows
        if self._table is not None:
            known &= self._table[np.clip(places, 0, self._span - 1)] >= 0
        return known

    def slots(self, rows: Rows) -> Rows:
        """Return the slot of each of `rows` (any shape).

        Raises:
            RetrievalError: A row is not held.
        """
        known = self.known(rows)
        if not known.all():
            raise RetrievalError(
                f"The index holds {len(self)} entities, but not KB row {int(rows[~known][0])}. "
                "It was built over another knowledge base: build it again, or `add` the entity first."
            )
        return self.places(rows)

    def places(self, rows: Rows) -> Rows:
        """Return the slot of each of `rows` (any shape) that are known to be held: a search has just found them."""
        if self._order is not None:
            return self._order[self._ranks(rows)]
        places = rows - self.first if self.first else rows
        return places if self._table is None else self._table[places]

    def _ranks(self, rows: Rows) -> Rows:
        return np.minimum(np.searchsorted(self._sorted, rows), len(self._sorted) - 1)

    def _refuse(self, twice: Rows) -> None:
        if len(twice):
            raise RetrievalError(f"Every entity must be in the index once, but KB row {twice[0]} is given more than once.")


Floats = npt.NDArray[np.float32]
Kind = Literal["flat", "ivf", "hnsw", "pq"]


class Candidates(NamedTuple):
    """Candidates returned by FAISS.

    Attributes:
        rows: KB rows, int64[B, F], best first, padded with −1.
        scores: FAISS' own scores, float32[B, F], falling.
        vectors: Their vectors, float32[B, F, D], where FAISS has them at hand; None = to be looked up.
    """

    rows: Rows
    scores: Floats
    vectors: Floats | None = None


class IndexBackend(ABC):
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
        return len(self.map)

    @abstractmethod
    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Candidates:
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
