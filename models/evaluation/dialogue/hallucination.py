"""Hallucinated values: entity values in a response that nothing in the generator's input contains."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from models.corpus.text import ALL_SCRIPTS, TextRule
from models.dialogue.data.records import Entity, Turn


class WordValues:
    """A set of values, compared without blanks (as the recall rule compares them).

    A value occurs in a text if consecutive words, joined without blanks, equal it.
    """

    def __init__(self, values: Iterable[str], *, rule: TextRule = ALL_SCRIPTS) -> None:
        """Index the values that hold a letter or digit."""
        self._rule = rule
        self._values = self.squeezed(values)
        self._lengths = _lengths(self._values)

    def __len__(self) -> int:
        """Return how many different values there are."""
        return len(self._values)

    def squeezed(self, values: Iterable[str]) -> frozenset[str]:
        """Return values as they are compared; those without a letter or digit are none."""
        return frozenset(map(self._rule.without_blanks, values)) - {""}

    def maximal(self, text: str, *, extra: Iterable[str] = ()) -> frozenset[str]:
        """Return the values in `text`, without_blanksd; the longest first, and a word belongs to one value only.

        Args:
            text: Where to look.
            extra: Further values, for this text only.
        """
        taken: set[int] = set()
        found: set[str] = set()
        spans = self._spans(text, self.squeezed(extra))
        for value, start, end in sorted(spans, key=lambda span: (-len(span[0]), span[1])):
            if taken.isdisjoint(range(start, end)):
                taken.update(range(start, end))
                found.add(value)
        return frozenset(found)

    def occurring(self, text: str) -> frozenset[str]:
        """Return the values anywhere in `text`, without_blanksd, also within longer ones."""
        return frozenset(value for value, _, _ in self._spans(text, frozenset()))

    def _spans(self, text: str, extra: Collection[str]) -> Iterator[tuple[str, int, int]]:
        """Yield (value, first word, word after the last)."""
        words = self._rule.normalise(text).split()
        more = _lengths(extra)
        for start, word in enumerate(words):
            longest = max(self._lengths.get(word[0], 0), more.get(word[0], 0))
            joined = ""
            for end in range(start, len(words)):
                joined += words[end]
                if len(joined) > longest:
                    break
                if joined in self._values or joined in extra:
                    yield joined, start, end + 1


def _lengths(values: Iterable[str]) -> dict[str, int]:
    """Return the longest value by first character."""
    longest: dict[str, int] = {}
    for value in values:
        longest[value[0]] = max(longest.get(value[0], 0), len(value))
    return longest


@dataclass(frozen=True, slots=True)
class GroundingText:
    """The values of one response.

    Attributes:
        values: All of them, without_blanksd, in alphabetical order.
        hallucinated: Those without support.
    """

    values: tuple[str, ...]
    hallucinated: tuple[str, ...]


class GroundingCheck:
    """Checks responses for values without support; entities and turns are indexed once."""

    def __init__(self, values: WordValues) -> None:
        """Take the values of the data set, those of `choice` left out (real-time counts of no entity)."""
        self._values = values
        self._of_entity: dict[str, frozenset[str]] = {}
        self._of_turn: dict[str, frozenset[str]] = {}

    def check(self, turn: Turn, response: str, *, retrieved: Iterable[Entity]) -> GroundingText:
        """Split the values of a response by whether anything given to the system contains them."""
        found = self._values.maximal(response)
        given = self._turn(turn).union(*(self._entity(entity) for entity in retrieved))
        return GroundingText(tuple(sorted(found)), tuple(sorted(found - given)))

    def _entity(self, entity: Entity) -> frozenset[str]:
        if entity.id not in self._of_entity:
            self._of_entity[entity.id] = self._in(entity.attributes.values())
        return self._of_entity[entity.id]

    def _turn(self, turn: Turn) -> frozenset[str]:
        if turn.id not in self._of_turn:
            dynamic = (value for values in turn.dynamic.values() for value in values)
            self._of_turn[turn.id] = self._in((*turn.context, *dynamic))
        return self._of_turn[turn.id]

    def _in(self, texts: Iterable[str]) -> frozenset[str]:
        # One by one: words across the border of two texts are not a value.
        return frozenset().union(*(self._values.occurring(text) for text in texts))
