"""Finds values in a text as whole words, however they are spaced: `cb1 2ab` is `cb12ab`, `7 pm` is `7pm`."""

from collections.abc import Collection, Iterable, Iterator

from models.data.text import ALL_SCRIPTS, TextRule


class WordValues:
    """A set of values, compared without blanks (as the recall rule compares them).

    A value stands in a text where words in a row, written together, equal it.
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
        return frozenset(map(self._rule.squeeze, values)) - {""}

    def maximal(self, text: str, *, extra: Iterable[str] = ()) -> frozenset[str]:
        """Return the values in `text`, squeezed; the longest first, and a word belongs to one value only.

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
        """Return the values anywhere in `text`, squeezed, also within longer ones."""
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
