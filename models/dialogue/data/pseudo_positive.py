"""Pseudo positives: the entity a system turn refers to, found by its values (App. D of MK-TOD) in an index from values to rows.

The cost of a turn is that of its words, of the entities that share a rare value with it, and of the combinations of common
values that occur; not of the knowledge base, however many entities share a value.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.corpus.text import contains_words
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.value_finder import ValueFinder, matchable

Ints = npt.NDArray[np.int64]
# Values that are answers rather than properties: they stand in half of all responses.
ANSWERS = frozenset({"yes", "no"})
# From this share of unambiguous values on, an attribute distinguishes entities (phone, address, postcode, but not food).
_IDENTIFYING = 0.25
# "the gandhi" is also called "gandhi", but "place" does not refer to "the place".
_LONG_WORD = 6
# A value is common from so many rows on (and from twice the root of all rows): its rows are looked at by combination.
_COMMON = 64


class ValueIndex:
    """Inverted index of a knowledge base: value → rows, and row → values. N entities, R requested rows.

    Values count once for each entity and are compared as `matchable` texts of whole words; each has a number.

    Attributes:
        kb: The knowledge base.
        unique_values: Values that entities of one name only have, of attributes that distinguish entities (at least a quarter of
            the entities have such a value): an address or a phone number, but not the one entity's kind of food.
        identifying_attributes: These attributes.
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        """Index all values: 16 bytes per value of a row, plus the distinct values themselves."""
        self.kb = kb
        self._values, self._names = ValueFinder(), ValueFinder()
        rows, values, attributes = self._cells()
        self._name_of = self._name_numbers()
        self._unique = self._unique_numbers(rows, values, attributes)
        single = set(self._unique.tolist())
        self.unique_values = frozenset(text for number, text in enumerate(self._values) if number in single)
        pairs = np.unique(rows * (len(self._values) + 1) + values)
        rows, values = np.divmod(pairs, len(self._values) + 1)
        self._starts, self._cell_values = np.searchsorted(rows, np.arange(len(kb) + 1)), values
        self._postings, self._posting_starts = _grouped(rows, values, num=len(self._values))
        self._first_rows, self._common_starts, self._is_common = self._combinations(rows, values)

    def values_in(self, *texts: str) -> Ints:
        """Return the numbers of the values in the texts, ascending; one across the border of two texts does not count."""
        return _sorted(number for text in texts for *_, number in self._values.spans(matchable(text)))

    def names_in(self, *texts: str) -> Ints:
        """Return the numbers of the names in the texts (or the names without a leading "the"), but not of names within names."""
        return _sorted(number for text in texts for *_, number in self._names.longest_spans(matchable(text)))

    def rows_with(self, values: Ints) -> Ints:
        """Return the rows that have at least one of the values, ascending."""
        return np.unique(self._rows_of(values))

    def candidates(self, values: Ints) -> Ints:
        """Return rows, ascending, among which is the lowest of those that are best by any order of having more of `values`.

        They are the rows of the rare ones among the values, and of every combination of common values (all that a row has) with
        one of `values` in it the lowest row: others of a combination have nothing more of `values` that would be rare.
        """
        common = self._is_common[values]
        first = [self._first_rows[self._common_starts[v] : self._common_starts[v + 1]] for v in values[common]]
        return np.unique(np.concatenate([self._rows_of(values[~common]), *first]))

    def rows_called(self, names: Ints) -> Ints:
        """Return the rows whose name is one of the names, ascending."""
        rows = self.rows_with(names)
        return rows[self.named(rows, names)]

    def hits(self, rows: Ints, values: Ints) -> Ints:
        """Return int64[R]: how many of the values each row has."""
        lengths = self._starts[rows + 1] - self._starts[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        before = np.cumsum(lengths) - lengths
        cells = self._cell_values[np.arange(len(owner)) + (self._starts[rows] - before)[owner]]
        return np.bincount(owner[np.isin(cells, values)], minlength=len(rows)).astype(np.int64)

    def named(self, rows: Ints, names: Ints) -> npt.NDArray[np.bool_]:
        """Return bool[R]: whether a row's name is one of the names."""
        return np.isin(self._name_of[rows], names)

    def rows_named(self, texts: Iterable[str]) -> list[int]:
        """Return the rows whose names occur in the texts, in order of first mention."""
        rows: dict[int, None] = {}
        for text in texts:
            for *_, name in self._names.longest_spans(matchable(text)):
                rows.update((row, None) for row in self.rows_called(np.array([name])).tolist())
        return list(rows)

    def identifying(self, values: Ints) -> Ints:
        """Return those of the values that are `unique_values`."""
        return np.intersect1d(values, self._unique)

    def _combinations(self, rows: Ints, values: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Return the lowest row of each combination of common values by value, where a value's begin, and which are common."""
        num = len(self._values)
        is_common = np.bincount(values, minlength=num) >= _common_from(len(self.kb))
        kept = is_common[values]
        owners, ends = np.unique(rows[kept], return_index=True)
        first: dict[bytes, int] = {}
        for row, group in zip(owners.tolist(), np.split(values[kept], ends[1:]), strict=True) if len(owners) else ():
            first.setdefault(group.tobytes(), row)
        found = np.array(sorted(first.values()), dtype=np.int64)
        lengths = self._starts[found + 1] - self._starts[found]
        cells = np.concatenate(
            [self._cell_values[s : s + n] for s, n in zip(self._starts[found], lengths, strict=True)] or [found]
        )
        cell_rows = np.repeat(found, lengths)
        shared = is_common[cells]
        return *_grouped(cell_rows[shared], cells[shared], num=num), is_common

    def _rows_of(self, values: Ints) -> Ints:
        lists = [self._postings[self._posting_starts[v] : self._posting_starts[v + 1]] for v in values]
        return np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)

    def _cells(self) -> tuple[Ints, Ints, Ints]:
        """Return row, value and attribute of every value of the knowledge base."""
        numbers = {name: i for i, name in enumerate(self.kb.attributes)}
        cells = array("q")
        # As published → number, since most entities share most of their values.
        known: dict[str, int] = {}
        for row, entity in enumerate(self.kb.entities):
            for attribute, value in entity.attributes.items():
                if value not in known:
                    known[value] = self._number(matchable(value))
                if known[value] >= 0:
                    cells.extend((row, known[value], numbers[attribute]))
        table = np.frombuffer(cells, dtype=np.int64).reshape(-1, 3) if cells else np.empty((0, 3), dtype=np.int64)
        return table[:, 0], table[:, 1], table[:, 2]

    def _name_numbers(self) -> Ints:
        """Return int64[N]: the number of each row's name, -1 where it has none; the names are then known to `_names`."""
        numbers = np.full(len(self.kb), -1)
        for row, entity in enumerate(self.kb.entities):
            name = matchable(entity.name)
            numbers[row] = number = self._number(name)
            if number >= 0:
                self._names.add(name, number)
        for name in list(self._names):
            if short := short_name(name):
                self._names.add(short, self._names.add(name))
                self._values.add(short, self._values.add(name))
        return numbers

    def _number(self, text: str) -> int:
        return self._values.add(text) if text and text not in ANSWERS else -1

    def _unique_numbers(self, rows: Ints, values: Ints, attributes: Ints) -> Ints:
        lowest, highest = np.full(len(self._values), len(self._values)), np.full(len(self._values), -1)
        np.minimum.at(lowest, values, self._name_of[rows])
        np.maximum.at(highest, values, self._name_of[rows])
        single = lowest[values] == highest[values]
        width = len(self.kb.attributes)
        share = np.bincount(attributes[single], minlength=width) / np.maximum(np.bincount(attributes, minlength=width), 1)
        self.identifying_attributes = frozenset(
            name for name, one in zip(self.kb.attributes, share, strict=True) if one >= _IDENTIFYING
        )
        return np.unique(values[single & (share[attributes] >= _IDENTIFYING)])


def pseudo_positive(turn: Turn, index: ValueIndex, *, rows: Sequence[int] | None = None) -> int | None:
    """Return the row of the entity that the turn most likely refers to, or None if the response has no value of any.

    The order: name in the response, most values in the response, name in the context, most values in the context, lowest row
    (of `rows`: first one). An API query speaks of no entity.

    Args:
        turn: The turn; its response is read, so this is for training and scoring only.
        index: Values of the knowledge base.
        rows: Rows to choose from (the dialogue's own); None = all.
    """
    said = index.values_in(turn.response)
    if turn.kind == "api_call" or not len(said):
        return None
    names = index.names_in(turn.response)
    in_context = index.values_in(*turn.context)
    left = index.candidates(np.union1d(said, in_context)) if rows is None else np.asarray(rows, dtype=np.int64)
    left = left[index.hits(left, said) > 0]
    left = _best(left, index.named(left, names))
    left = _best(left, index.hits(left, said))
    left = _best(left, index.named(left, index.names_in(*turn.context)))
    left = _best(left, index.hits(left, in_context))
    return int(left[0]) if len(left) else None


def seen_in_context(entity: Entity, normalised_context: str, index: ValueIndex) -> bool:
    """Whether the dialogue has already named an entity: co-occurrence, the third kind of meta knowledge (§3.4 of MK-TOD).

    Args:
        entity: The entity.
        normalised_context: The context, utterances joined, as `normalise` or `matchable` gives it.
        index: Values of the knowledge base.

    Returns:
        True if the name (or the name without a leading "the") or a value that only this entity has stands in the context.
    """
    context = matchable(normalised_context)
    name = matchable(entity.name)
    values = {matchable(value) for value in entity.attributes.values()}
    telling = {name, short_name(name)} | (values & index.unique_values)
    return any(contains_words(context, value) for value in telling)


def _common_from(num_rows: int) -> int:
    return max(_COMMON, 2 * math.isqrt(num_rows))


def _grouped(rows: Ints, values: Ints, *, num: int) -> tuple[Ints, Ints]:
    """Return the rows by value, ascending within one as they were, and int64[num + 1]: where the rows of each value begin."""
    order = np.argsort(values, kind="stable")
    return rows[order], np.searchsorted(values[order], np.arange(num + 1))


def _best(rows: Ints, keys: npt.NDArray[Any]) -> Ints:
    """Return the rows with the highest key, in their order."""
    return rows[keys == keys.max()] if len(rows) > 1 else rows


def short_name(name: str) -> str:
    """Return a name without its leading "the", or an empty text where it has none, or too little is left."""
    rest = name.removeprefix("the ")
    return rest if rest != name and (" " in rest or len(rest) >= _LONG_WORD) else ""


def _sorted(numbers: Iterable[int]) -> Ints:
    return np.array(sorted(set(numbers)), dtype=np.int64)
