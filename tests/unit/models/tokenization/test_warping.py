"""Dynamic time warping against the ancestors' loops, ties included."""

import numpy as np
import pytest

from models.tokenization.warping import warp


def by_loops(costs, rows, cols) -> list[tuple[int, int]]:
    n, m = len(rows), len(cols)
    table = np.full((n + 1, m + 1), np.inf)
    table[0, 0] = 0
    for i in range(n):
        for j in range(m):
            table[i + 1, j + 1] = costs[rows[i], cols[j]] + min(table[i, j + 1], table[i + 1, j], table[i, j])
    table, i, j, path = table[1:, 1:], n - 1, m - 1, []
    while i > 0 or j > 0:
        path.append((i, j))
        options = [
            table[i - 1, j - 1] if i and j else np.inf,
            table[i - 1, j] if i else np.inf,
            table[i, j - 1] if j else np.inf,
        ]
        move = int(np.argmin(options))
        i, j = i - (move != 2), j - (move != 1)
    return [*path, (0, 0)][::-1]


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(5):
        kinds = int(rng.integers(1, 6))
        # Few small costs give many ties.
        costs = rng.integers(0, 4, (kinds, kinds)).astype(np.uint8)
        rows, cols = rng.integers(0, kinds, rng.integers(1, 15)), rng.integers(0, kinds, rng.integers(1, 15))
        assert warp(costs, rows, cols) == by_loops(costs, rows, cols)


def test_ends() -> None:
    costs, none = np.ones((1, 1), np.uint8), np.array([], np.intp)
    assert warp(costs, none, np.array([0])) == warp(costs, np.array([0]), none) == []
    assert warp(costs, np.array([0]), np.array([0, 0])) == [(0, 0), (0, 1)]


def test_large_costs_do_not_overflow() -> None:
    costs = np.full((1, 1), 255, np.uint8)
    zeros = np.zeros(3000, np.intp)
    path = warp(costs, zeros, zeros)
    assert path == [(i, i) for i in range(3000)]
