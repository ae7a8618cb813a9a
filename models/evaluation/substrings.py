"""Which of many values occur in a text as substrings, at a cost that hardly depends on their number."""

from collections.abc import Iterable

_PREFIX = 3


class SubstringIndex:
    """Values by their first characters and length; each has the numbers under which it was given."""

    def __init__(self, values: Iterable[str]) -> None:
        """Index the values that are not empty; a value's numbers are its places in `values`."""
        self._numbers: dict[str, tuple[int, ...]] = {}
        lengths: dict[str, set[int]] = {}
        for number, value in enumerate(values):
            if value:
                self._numbers[value] = (*self._numbers.get(value, ()), number)
                lengths.setdefault(value[:_PREFIX], set()).add(len(value))
        self._lengths = {prefix: tuple(sorted(found)) for prefix, found in lengths.items()}

    def occurring(self, text: str) -> set[int]:
        """Return the numbers of all values that are substrings of `text`."""
        found: set[int] = set()
        for start in range(len(text)):
            for size in range(1, _PREFIX + 1):
                for length in self._lengths.get(text[start : start + size], ()):
                    found.update(self._numbers.get(text[start : start + length], ()))
        return found
