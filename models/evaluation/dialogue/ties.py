"""Expected recall: recall@k in expectation over a random order of what ties.

Two things tie. Entities with equal scores, which a ranking puts in an order of its own (by row). And entities that are equal in
all that a user can ask for, of which a dialogue has named neither: it cannot say which of them it means, so a ranking that puts
one of them first is right or wrong by chance. Equal scores are put in random order, then equal entities change places at random;
the expectation is exact.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
import numpy.typing as npt

from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Turn

Ints = npt.NDArray[np.int64]
Members = Mapping[int, Sequence[int]]
"""Row → all rows that are equal to it, itself among them; one that equals no other may be missing."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a system ranks first for a turn.

    Attributes:
        rows: KB rows, best first.
        scores: Their scores, falling.
        tied: Rows behind these that have the score of the last one.
    """

    rows: Sequence[int]
    scores: Sequence[float]
    tied: Sequence[int] = ()

    def cut(self, k: int) -> tuple[list[int], list[int], int]:
        """Return the rows among the first k in any order of equal scores, those that may be, and the places for these."""
        k = min(k, len(self.rows))
        if not k:
            return [], [], 0
        last = self.scores[k - 1]
        sure = [row for row, score in zip(self.rows, self.scores, strict=True) if score > last]
        open_ = [row for row, score in zip(self.rows, self.scores, strict=True) if score == last]
        if last == self.scores[-1]:
            open_ += self.tied
        return sure, open_, k - len(sure)


class EqualEntities:
    """Which entities a dialogue cannot tell apart."""

    def __init__(self, index: ValueIndex, *, attributes: Iterable[str]) -> None:
        """Group the entities by domain and by `attributes`, those that a user can ask for."""
        self._index = index
        groups: dict[tuple[str | None, ...], list[int]] = {}
        asked = tuple(attributes)
        for row, entity in enumerate(index.kb.entities):
            key = (entity.domain, *(entity.attributes.get(name) for name in asked))
            groups.setdefault(key, []).append(row)
        self._groups: list[list[int]] = list(groups.values())
        self._group_of = {row: number for number, rows in enumerate(self._groups) for row in rows}

    def of(self, turn: Turn, rows: Iterable[int], *, session: Sequence[int] | None = None) -> Members:
        """Return the members of the groups of some rows, at a turn.

        An entity of which the context has the name, or a value that only entities of its name have, equals those of its group of
        which it has the same.

        Args:
            turn: The turn; only its context is read.
            rows: The rows.
            session: Rows that compete; None = all.
        """
        told = np.union1d(self._index.names_in(*turn.context), self._index.identifying(self._index.values_in(*turn.context)))
        named = self._index.rows_with(told)
        said = {int(row): frozenset(v for v in told.tolist() if self._has(int(row), v)) for row in named}
        competing = None if session is None else set(session)
        members: dict[int, Sequence[int]] = {}
        for row in rows:
            group = self._groups[self._group_of[row]]
            if row in members or len(group) == 1:
                continue
            same = [r for r in group if said.get(r) == said.get(row) and (competing is None or r in competing)]
            members |= dict.fromkeys(same, same)
        return members

    def _has(self, row: int, value: int) -> bool:
        return bool(self._index.hits(np.array([row]), np.array([value]))[0])


def expected_recall(ranking: Ranking, wanted: Mapping[int, int], *, full: int, members: Members, k: int) -> float:
    """Return the probability that the first k rows have everything wanted.

    Args:
        ranking: The ranking.
        wanted: Row → which of the wanted things it has, as bits; those without any may be missing.
        full: The bits of all that is wanted.
        members: Equal rows.
        k: The cutoff.
    """
    sure, open_, places = ranking.cut(k)
    have = _Draws(full)
    loose: Counter[int] = Counter()  # rows that are drawn one by one, by what they have
    seen: set[int] = set()
    among, may = set(sure), set(open_)
    for row in (*sure, *open_):
        group = members.get(row, (row,))
        if row in seen:
            continue
        seen.update(group)
        fixed, free = sum(r in among for r in group), sum(r in may for r in group)
        bits = [wanted.get(r, 0) for r in group]
        if free == len(group) or not any(bits):
            # Drawn with equal chances as it is, or of no consequence.
            loose.update(wanted.get(r, 0) for r in group if r in may)
        else:
            have.add_group(Counter(bits), fixed=fixed, free=free, places=places)
    for bits_, count in loose.items():
        if bits_:
            have.add_loose(bits_, count, places=places)
    return have.share(places, rest=loose[0], drawn=len(open_))


class _Draws:
    """Ways of filling the open places, by the number filled and what the rows have together."""

    def __init__(self, full: int) -> None:
        self._full = full
        self._ways: dict[tuple[int, int], Fraction] = {(0, 0): Fraction(1)}

    def add_group(self, bits: Counter[int], *, fixed: int, free: int, places: int) -> None:
        """Add equal rows, of which `fixed` surely have places and `free` may get some: which of them they are is drawn after."""
        size = bits.total()
        unions = _unions(bits, min(fixed + min(free, places), size))
        steps = [
            (number, have, comb(free, number) * Fraction(ways, comb(size, fixed + number)))
            for number in range(min(free, places) + 1)
            for have, ways in unions[fixed + number].items()
        ]
        self._extend(steps, places)

    def add_loose(self, bits: int, count: int, *, places: int) -> None:
        """Add rows that all have the same, each of which may get a place."""
        most = min(count, places)
        self._extend([(number, bits if number else 0, Fraction(comb(count, number))) for number in range(most + 1)], places)

    def share(self, places: int, *, rest: int, drawn: int) -> float:
        """Return the share of the ways that have everything, with `rest` further rows that have nothing wanted."""
        good = sum(
            (ways * comb(rest, places - filled) for (filled, have), ways in self._ways.items() if have == self._full), Fraction(0)
        )
        return float(good / comb(drawn, places))

    def _extend(self, steps: Sequence[tuple[int, int, Fraction]], places: int) -> None:
        made: dict[tuple[int, int], Fraction] = {}
        for (filled, have), ways in self._ways.items():
            for number, more, times in steps:
                if filled + number <= places:
                    key = (filled + number, (have | more) & self._full)
                    made[key] = made.get(key, Fraction(0)) + ways * times
        self._ways = made


def _unions(bits: Counter[int], most: int) -> list[dict[int, int]]:
    """Return for 0 to `most` rows drawn: what they have together → number of ways to draw them."""
    found: list[dict[int, int]] = [{0: 1}, *({} for _ in range(most))]
    for have, count in bits.items():
        grown: list[dict[int, int]] = [{} for _ in range(most + 1)]
        for drawn, unions in enumerate(found):
            for number in range(min(count, most - drawn) + 1):
                for union, ways in unions.items():
                    key = union | have if number else union
                    grown[drawn + number][key] = grown[drawn + number].get(key, 0) + ways * comb(count, number)
        found = grown
    return found


def tied_with_last(
    scores: Iterable[npt.NDArray[np.float32]], hits: Sequence[Sequence[int]], *, within: Sequence[Sequence[int]] | None
) -> Iterator[list[int]]:
    """Yield for each query the rows that have the score of the last row retrieved, but were not retrieved.

    Args:
        scores: Dense scores [N] of each query, one held at a time.
        hits: Rows retrieved for each query, best first.
        within: Rows of each query's session; None = all.
    """
    for number, (dense, rows) in enumerate(zip(scores, hits, strict=True)):
        if not len(rows):
            yield []
            continue
        same = np.flatnonzero(dense == dense[rows[-1]]).astype(np.int64)
        if within is not None:
            same = same[np.isin(same, np.asarray(within[number], dtype=np.int64))]
        others: list[int] = same[~np.isin(same, np.asarray(rows, dtype=np.int64))].tolist()
        yield others
