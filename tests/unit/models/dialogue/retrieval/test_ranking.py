"""Order of scored entities."""

import numpy as np

from models.dialogue.retrieval.ranking import rank, rank_dense, session_rows, top_rows


def test_equal_scores_stand_in_the_order_of_rows() -> None:
    hits = rank(np.array([[5, 2, 9]]), np.array([[0.5, 0.5, 0.75]], dtype=np.float32), k=3)
    assert hits.rows.tolist() == [[9, 2, 5]]
    assert hits.scores.tolist() == [[0.75, 0.5, 0.5]]


def test_what_is_missing_is_padded_and_counted() -> None:
    hits = rank(np.array([[3, -1], [-1, -1]]), np.array([[-0.5, 9.0], [0.0, 0.0]], dtype=np.float32), k=3)
    assert hits.rows.tolist() == [[3, -1, -1], [-1, -1, -1]]
    assert hits.counts.tolist() == [1, 0]
    assert np.isneginf(hits.scores[0, 1:]).all() and hits.of(0) == [(3, -0.5)] and hits.of(1) == []


def test_top_rows_takes_the_first_of_those_tied_at_the_border() -> None:
    scores = np.array([1, 3, 2, 2, 3, 2], dtype=np.float32)
    assert top_rows(scores, k=4).tolist() == [1, 4, 2, 3]
    assert top_rows(scores, k=99).tolist() == [1, 4, 2, 3, 5, 0]
    assert top_rows(scores[:0], k=3).tolist() == []


def test_sessions_are_sorted_without_repeats() -> None:
    assert session_rows([[4, 1, 4], [], [7]]).tolist() == [[1, 4], [-1, -1], [7, -1]]


def test_dense_scores_within_sessions() -> None:
    dense = [np.array([0, 5, 1, 5], dtype=np.float32), np.array([1, 0, 0, 2], dtype=np.float32)]
    assert rank_dense(iter(dense), k=2, within=None).rows.tolist() == [[1, 3], [3, 0]]
    hits = rank_dense(iter(dense), k=3, within=[[3, 2], []])
    assert hits.rows.tolist() == [[3, 2, -1], [-1, -1, -1]]
    assert hits.counts.tolist() == [2, 0]
    assert rank_dense(iter([]), k=3, within=None).rows.shape == (0, 3)
