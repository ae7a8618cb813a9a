"""Edit distance alignment of FuseLLM: nearest strings, and dynamic time warping vectorised over columns."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

_CHUNK = 256
_SATURATED = 255


def distances(left: Sequence[str], right: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the Levenshtein distances uint8[len(left), len(right)], capped at 255."""
    # The cut-off makes longer distances 255 instead of wrapping around.
    return np.asarray(cdist(left, right, scorer=Levenshtein.distance, dtype=np.uint8, score_cutoff=_SATURATED - 1))


def nearest_strings(needles: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return for each needle the index of the first name at the smallest edit distance, int32[len(needles)].

    Empty names are ignored; distances are capped at 255. Memory does not grow with the number of needles.
    """
    places = np.array([i for i, name in enumerate(names) if name], np.int32)
    kept = [names[i] for i in places.tolist()]
    found = np.empty(len(needles), np.int32)
    for start in range(0, len(needles), _CHUNK):
        found[start : start + _CHUNK] = places[distances(needles[start : start + _CHUNK], kept).argmin(axis=1)]
    return found


_DIAGONAL, _UP, _LEFT = 0, 1, 2


def dynamic_time_warp(
    costs: npt.NDArray[np.integer], rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]
) -> list[tuple[int, int]]:
    """Find the cheapest monotone path through two sequences that visits every element of both.

    D[i, j] = cost(i, j) + min(D[i-1, j-1], D[i-1, j], D[i, j-1]), without extra cost for gaps.
    The backtrace prefers the diagonal, then a step in the rows (up), then one in the columns (left).

    Args:
        costs: Cost of each pair of kinds, [kinds of rows, kinds of columns].
        rows: Kind of each of the N row elements.
        cols: Kind of each of the M column elements.

    Returns:
        The path from (0, 0) to (N-1, M-1); empty if a sequence is empty. Time O(N·M) in numpy, memory N·M bytes.
    """
    if len(rows) == 0 or len(cols) == 0:
        return []
    moves = _moves(costs, rows, cols)
    i, j = len(rows) - 1, len(cols) - 1
    path = [(i, j)]
    while i > 0 or j > 0:
        move = moves[i, j]
        i -= move != _LEFT
        j -= move != _UP
        path.append((i, j))
    return path[::-1]


def _moves(costs: npt.NDArray[np.integer], rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    width = len(cols)
    # Many rows share a kind, so costs and their running sums are computed once per kind.
    sums = np.zeros((costs.shape[0], width + 1), np.int32)
    np.cumsum(costs[:, cols], axis=1, out=sums[:, 1:], dtype=np.int32)
    moves = np.empty((len(rows), width), np.uint8)
    moves[0] = _LEFT
    above = sums[rows[0], 1:].copy()
    never = np.iinfo(np.int32).max // 2
    diagonal, left = np.full(width, never, np.int32), np.full(width, never, np.int32)
    for i in range(1, len(rows)):
        diagonal[1:] = above[:-1]
        entry = np.minimum(above, diagonal)
        total = sums[rows[i]]
        # Unrolled over the steps to the left: D[j] = S[j] + min over k ≤ j of (entry[k] − S[k−1]).
        here = np.minimum.accumulate(entry - total[:-1]) + total[1:]
        left[1:] = here[:-1]
        np.multiply(np.minimum(diagonal, above) > left, _LEFT, out=moves[i], casting="unsafe")
        moves[i] += (above < diagonal) & (moves[i] == 0)
        above = here
    return moves
