"""Expected recall against all orders, one by one."""

from itertools import permutations, product
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.dialogue.ties import Ranking, expected_recall

NUM = 6
Case = tuple[list[int], list[int], list[int], int, int]


def cases() -> st.SearchStrategy[Case]:
    """Scores, groups of equals and bits of six rows; how many are retrieved, and the cutoff."""
    small = st.lists(st.integers(0, 2), min_size=NUM, max_size=NUM)
    return st.tuples(
        small, small, st.lists(st.integers(0, 3), min_size=NUM, max_size=NUM), st.integers(1, NUM), st.integers(1, NUM)
    )


def by_hand(scores: list[int], groups: list[int], bits: list[int], k: int) -> float:
    """Order equal scores in every way, and in each order let equal rows change places in every way."""
    runs = [[row for row in range(NUM) if scores[row] == score] for score in sorted(set(scores), reverse=True)]
    hits = []
    for orders in product(*(list(permutations(run)) for run in runs)):
        order = [row for run in orders for row in run]
        places = {group: [place for place, row in enumerate(order) if groups[row] == group] for group in set(groups)}
        for mixed in product(*(list(permutations([order[p] for p in places[group]])) for group in places)):
            final = list(order)
            for group, rows in zip(places, mixed, strict=True):
                for place, row in zip(places[group], rows, strict=True):
                    final[place] = row
            have = 0
            for row in final[:k]:
                have |= bits[row]
            hits.append(have == 3)
    return mean(hits)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_it_is_the_mean_over_all_orders(case: Case) -> None:
    scores, groups, bits, retrieved, k = case
    order = sorted(range(NUM), key=lambda row: (-scores[row], row))
    rows, last = order[:retrieved], scores[order[retrieved - 1]]
    tied = [row for row in order[retrieved:] if scores[row] == last]
    members = {row: [other for other in range(NUM) if groups[other] == groups[row]] for row in range(NUM)}
    ranking = Ranking(rows, [scores[row] for row in rows], tied)
    found = expected_recall(ranking, dict(enumerate(bits)), full=3, members=members, k=k)
    assert found == pytest.approx(by_hand(scores, groups, bits, min(k, retrieved)))


def test_a_lottery_among_thousands() -> None:
    rows, rest = list(range(7)), list(range(7, 5000))
    ranking = Ranking(rows, [0.0] * 7, rest)
    assert expected_recall(ranking, {4000: 1}, full=1, members={}, k=7) == pytest.approx(7 / 5000)
    assert expected_recall(ranking, {0: 1, 4000: 2}, full=3, members={}, k=7) == pytest.approx(7 * 6 / (5000 * 4999))
    apart = Ranking(rows, [1.0, *[0.0] * 6], rest)
    assert expected_recall(apart, {0: 1}, full=1, members={}, k=1) == 1
    # The best one equals three others: which of them is meant is as good as drawn.
    assert expected_recall(apart, {0: 1}, full=1, members=dict.fromkeys((0, 8, 9, 10), (0, 8, 9, 10)), k=1) == 0.25
    assert expected_recall(apart, {}, full=0, members={}, k=1) == 1
