"""Nearest strings against the textbook recursion."""

import random
from functools import cache

from models.tokenization import edit_distance
from models.tokenization.edit_distance import distances, nearest_strings


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
