"""Nearest strings against the textbook recursion."""

import random
from functools import cache

import numpy as np
import pytest

from models.tokenization import edit_distance
from models.tokenization.edit_distance import distances, dynamic_time_warp, nearest_strings


def textbook(a: str, b: str) -> int:
    @cache
    def d(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("ab▁é", k=rng.randint(1, 6))) for _ in range(count)]


def test_distances() -> None:
    left, right = words(30, 1), words(40, 2)
    assert distances(left, right).tolist() == [[textbook(a, b) for b in right] for a in left]


def test_long_strings_saturate_instead_of_wrapping_around() -> None:
    assert distances(["a" * 256, "a" * 254], ["b" * 600, "b"]).tolist() == [[255, 255], [255, 254]]


def test_first_of_the_nearest_and_no_empty_name(monkeypatch) -> None:
    assert nearest_strings(["ab", "x"], ["", "abcd", "ac", "aa", "ab "]).tolist() == [2, 2]
    needles, names = words(50, 3), ["", *words(60, 4)]
    wanted = [min(range(1, 61), key=lambda k: (textbook(n, names[k]), k)) for n in needles]
    assert nearest_strings(needles, names).tolist() == wanted
    monkeypatch.setattr(edit_distance, "_CHUNK", 7)
    assert nearest_strings(needles, names).tolist() == wanted
    assert nearest_strings([], names).tolist() == []


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
        assert dynamic_time_warp(costs, rows, cols) == by_loops(costs, rows, cols)


def test_ends() -> None:
    costs, none = np.ones((1, 1), np.uint8), np.array([], np.intp)
    assert dynamic_time_warp(costs, none, np.array([0])) == dynamic_time_warp(costs, np.array([0]), none) == []
    assert dynamic_time_warp(costs, np.array([0]), np.array([0, 0])) == [(0, 0), (0, 1)]


def test_large_costs_do_not_overflow() -> None:
    costs = np.full((1, 1), 255, np.uint8)
    zeros = np.zeros(3000, np.intp)
    path = dynamic_time_warp(costs, zeros, zeros)
    assert path == [(i, i) for i in range(3000)]
