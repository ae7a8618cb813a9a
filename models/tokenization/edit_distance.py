"""Nearest strings by edit distance."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

_CHUNK = 256
_SATURATED = 255


def distances(left: Sequence[str], right: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the Levenshtein distances uint8[len(left), len(right)], 255 standing for 255 and more."""
    # The cut-off makes longer distances 255 instead of wrapping around.
    return np.asarray(cdist(left, right, scorer=Levenshtein.distance, dtype=np.uint8, score_cutoff=_SATURATED - 1))


def nearest_strings(needles: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return for each needle the position of the first name at the least edit distance, int32[len(needles)].

    Empty names do not count; distances of 255 and more are equal. Memory does not grow with the number of needles.
    """
    places = np.array([i for i, name in enumerate(names) if name], np.int32)
    kept = [names[i] for i in places.tolist()]
    found = np.empty(len(needles), np.int32)
    for start in range(0, len(needles), _CHUNK):
        found[start : start + _CHUNK] = places[distances(needles[start : start + _CHUNK], kept).argmin(axis=1)]
    return found
