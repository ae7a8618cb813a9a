"""KB rows and the slots a store keeps them in."""

import numpy as np
import numpy.typing as npt

from models.retrieval.errors import RetrievalError

Rows = npt.NDArray[np.int64]


class RowMap:
    """Which slot holds which KB row; 24 bytes a row.

    Attributes:
        rows: int64[N], the KB row in each slot.
    """

    def __init__(self, rows: Rows) -> None:
        """Index the rows.

        Raises:
            RetrievalError: A row occurs twice.
        """
        self.rows = np.ascontiguousarray(rows, dtype=np.int64)
        self._order = np.argsort(self.rows, kind="stable")
        self._sorted = self.rows[self._order]
        twice = self._sorted[1:][self._sorted[1:] == self._sorted[:-1]]
        if len(twice):
            raise RetrievalError(f"Every entity must stand in the index once, but KB row {twice[0]} is given more than once.")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def known(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which of `rows` (any shape) are held."""
        if not len(self.rows):
            return np.zeros(rows.shape, dtype=np.bool_)
        known: npt.NDArray[np.bool_] = self._sorted[self._places(rows)] == rows
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
        return self._order[self._places(rows)] if rows.size else rows

    def _places(self, rows: Rows) -> Rows:
        return np.minimum(np.searchsorted(self._sorted, rows), len(self._sorted) - 1)
