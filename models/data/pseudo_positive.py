"""Which entity a system turn speaks of, found by its values (App. D of MK-TOD), over an index from values to rows.

The cost of a turn is that of its words and of the entities that share a value with the response, not of the knowledge base.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.data.text import contains_words
from models.data.value_finder import ValueFinder, matchable

Ints = npt.NDArray[np.int64]
# Values that are answers rather than properties: they stand in half of all responses.
_ANSWERS = frozenset({"yes", "no"})
# From this share of unambiguous values on, an attribute tells entities apart (phone, address, postcode, but not food).
_IDENTIFYING = 0.25
# "the gandhi" is also called "gandhi", but "place" says nothing of "the place".
_LONG_WORD = 6


class ValueIndex:
    """Where the values of a knowledge base stand: value → rows, and row → values. N entities, R rows asked for.

    Values count once for each entity and are compared as `matchable` texts of whole words; each has a number.

    Attributes:
        kb: The knowledge base.
        unique_values: Values that entities of one name only have, of attributes that tell entities apart (at least a quarter of
            the entities have such a value): an address or a phone number, but not the one entity's kind of food.
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        """Index all values: 16 bytes for each value of a row, besides the distinct values themselves."""
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
        order = np.argsort(values, kind="stable")
        self._postings = rows[order]
        self._posting_starts = np.searchsorted(values[order], np.arange(len(self._values) + 1))

    def values_in(self, *texts: str) -> Ints:
        """Return the numbers of the values in the texts, ascending; one across the border of two texts does not count."""
        return _sorted(number for text in texts for *_, number in self._values.spans(matchable(text)))

    def names_in(self, *texts: str) -> Ints:
        """Return the numbers of the names in the texts (or the names without a leading "the"), but not of names within names."""
        return _sorted(number for text in texts for *_, number in self._names.longest_spans(matchable(text)))

    def rows_with(self, values: Ints) -> Ints:
        """Return the rows that have at least one of the values, ascending."""
        return np.unique(self._rows_of(values))

    def rows_with_most(self, values: Ints) -> Ints:
        """Return the rows that have most of the values (at least one), ascending."""
        counts = np.bincount(self._rows_of(values))
        return np.flatnonzero(counts == counts.max(initial=1))

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
        """Return the rows whose names stand in the texts, in the order in which they are first named."""
        rows: dict[int, None] = {}
        for text in texts:
            for *_, name in self._names.longest_spans(matchable(text)):
                rows.update((row, None) for row in self.rows_called(np.array([name])).tolist())
        return list(rows)

    def identifying(self, values: Ints) -> Ints:
        """Return those of the values that are `unique_values`."""
        return np.intersect1d(values, self._unique)

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
            if short := _short(name):
                self._names.add(short, self._names.add(name))
                self._values.add(short, self._values.add(name))
        return numbers

    def _number(self, text: str) -> int:
        return self._values.add(text) if text and text not in _ANSWERS else -1

    def _unique_numbers(self, rows: Ints, values: Ints, attributes: Ints) -> Ints:
        lowest, highest = np.full(len(self._values), len(self._values)), np.full(len(self._values), -1)
        np.minimum.at(lowest, values, self._name_of[rows])
        np.maximum.at(highest, values, self._name_of[rows])
        single = lowest[values] == highest[values]
        width = len(self.kb.attributes)
        share = np.bincount(attributes[single], minlength=width) / np.maximum(np.bincount(attributes, minlength=width), 1)
        return np.unique(values[single & (share[attributes] >= _IDENTIFYING)])


def pseudo_positive(turn: Turn, index: ValueIndex, *, rows: Sequence[int] | None = None) -> int | None:
    """Return the row of the entity that the turn most likely speaks of, or None where the response holds no value of any.

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
    if rows is None:
        left = index.rows_called(names) if len(names) else index.rows_with_most(said)
    else:
        left = np.asarray(rows, dtype=np.int64)
        left = left[index.hits(left, said) > 0]
        left = _best(left, index.named(left, names))
    left = _best(left, index.hits(left, said))
    left = _best(left, index.named(left, index.names_in(*turn.context)))
    left = _best(left, index.hits(left, index.values_in(*turn.context)))
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
    telling = {name, _short(name)} | (values & index.unique_values)
    return any(contains_words(context, value) for value in telling)


def _best(rows: Ints, keys: npt.NDArray[Any]) -> Ints:
    """Return the rows with the highest key, in their order."""
    return rows[keys == keys.max()] if len(rows) > 1 else rows


def _short(name: str) -> str:
    """Return a name without its leading "the", or an empty text where it has none, or too little is left."""
    rest = name.removeprefix("the ")
    return rest if rest != name and (" " in rest or len(rest) >= _LONG_WORD) else ""


def _sorted(numbers: Iterable[int]) -> Ints:
    return np.array(sorted(set(numbers)), dtype=np.int64)
