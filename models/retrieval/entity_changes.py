"""Which rows of a knowledge base read differently than before."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Texts = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EntityChanges:
    """The difference of two knowledge bases, row by row.

    Attributes:
        rows: Rows with another text than before, or none before, rising, int64[M].
        moved: Whether that text stood in another row before, bool[M].
        origins: That row, int64[M]; any number where it did not.
        removed: Rows behind the present last one, int64[R].
        num_before: Rows before.
    """

    rows: Rows
    moved: npt.NDArray[np.bool_]
    origins: Rows
    removed: Rows
    num_before: int


def find_changes(before: Texts, after: Texts) -> EntityChanges:
    """Compare the digests of all texts, uint8[N, 16] each, N before and after."""
    common = min(len(before), len(after))
    differs = np.ones(len(after), dtype=np.bool_)
    differs[:common] = (before[:common] != after[:common]).any(axis=1)
    rows = np.flatnonzero(differs).astype(np.int64)
    origins = _origins(before, after[rows])
    moved = (before[origins] == after[rows]).all(axis=1) if len(before) else np.zeros(len(rows), dtype=np.bool_)
    return EntityChanges(rows, moved, origins, np.arange(common, len(before), dtype=np.int64), len(before))


def _origins(before: Texts, wanted: Texts) -> Rows:
    """Return the row of `before` that holds each wanted digest, or another one where none does."""
    if not len(before) or not len(wanted):
        return np.zeros(len(wanted), dtype=np.int64)
    keys, sought = (np.ascontiguousarray(texts[:, :8]).view(np.uint64).ravel() for texts in (before, wanted))
    order = np.argsort(keys, kind="stable")
    return order[np.minimum(np.searchsorted(keys[order], sought), len(keys) - 1)]
