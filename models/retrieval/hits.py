"""What a search returns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Hits:
    """The best entities of each query, best first; ties by row.

    Attributes:
        rows: KB rows, int64[B, K]; −1 behind the `counts[b]` real ones where a session has fewer than K entities.
        scores: Their scores, float32[B, K]; −inf where the row is −1.
        counts: Real hits of each query, int64[B].
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]

    def of(self, query: int) -> list[tuple[int, float]]:
        """Return (row, score) of the real hits of one query."""
        count = int(self.counts[query])
        rows, scores = self.rows[query, :count], self.scores[query, :count]
        return [(int(r), float(s)) for r, s in zip(rows, scores, strict=True)]
