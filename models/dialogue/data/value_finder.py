"""Search for known values in text as whole words, in time linear in the text and independent of the number of values."""

import re
from collections.abc import Iterator

from models.corpus.text import ALL_SCRIPTS, TextRule

_CLOCK = re.compile(r"\b(\d{1,2}) ([ap]m)\b")


def matchable(text: str, *, rule: TextRule = ALL_SCRIPTS) -> str:
    """Normalise a text for finding values in it; `7 pm` becomes `7pm`, as data sets write both."""
    return _CLOCK.sub(r"\1\2", rule.normalise(text))


class ValueFinder:
    """A set of values with a number each; values are `matchable` texts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, value: str) -> bool:
        return value in self._numbers

    def __iter__(self) -> Iterator[str]:
        """Yield the values in the order they were added."""
        return iter(self._numbers)

    def add(self, value: str, number: int | None = None) -> int:
        """Add a non-empty value, with a new number if none is given; return its number."""
        if value not in self._numbers:
            self._numbers[value] = len(self._numbers) if number is None else number
            first, *rest = value.split()
            known = self._lengths.get(first, ())
            if len(rest) + 1 not in known:
                self._lengths[first] = tuple(sorted((*known, len(rest) + 1)))
        return self._numbers[value]

    def spans(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield (first word, word after the last, number) of every value in a `matchable` text; they may overlap."""
        words = text.split()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                number = self._numbers.get(" ".join(words[start : start + length]), -1)
                if number >= 0 and start + length <= len(words):
                    yield start, start + length, number

    def longest_spans(self, text: str) -> list[tuple[int, int, int]]:
        """Return spans that do not overlap, in the order of the text; of two that would, the one with more characters stays."""
        words = text.split()
        found = sorted(self.spans(text), key=lambda span: (-len(" ".join(words[span[0] : span[1]])), span[0]))
        kept: list[tuple[int, int, int]] = []
        for start, end, number in found:
            if all(end <= first or last <= start for first, last, _ in kept):
                kept.append((start, end, number))
        return sorted(kept)
