"""Summing over clusters before a bootstrap: turns of one dialogue are not independent, so dialogues are resampled."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cluster_sums(columns: Floats, clusters: Sequence[Hashable]) -> Floats:
    """Sum the rows of `columns` [N, M] that share a cluster.

    Put in place of the rows, the sums make `models.evaluation.bootstrap` resample whole clusters.

    Args:
        columns: Numerators and denominators.
        clusters: Cluster of each row, length N.

    Returns:
        float64[C, M], clusters in the order they are first seen.
    """
    numbers: dict[Hashable, int] = {}
    places = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, places, columns)
    return sums
