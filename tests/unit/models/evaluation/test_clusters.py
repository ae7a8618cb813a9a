"""Sums over clusters."""

import numpy as np

from models.evaluation.clusters import cluster_sums


def test_rows_of_a_cluster_are_summed_in_first_seen_order() -> None:
    columns = np.array([[1.0, 1], [2, 1], [4, 1], [8, 1]])
    assert cluster_sums(columns, ["b", "a", "b", "c"]).tolist() == [[5, 2], [2, 1], [8, 1]]
    assert cluster_sums(np.empty((0, 2)), []).shape == (0, 2)
