"""Invents words and codes that do not occur in a data set, each only once; the same seed and key give the same ones."""

import hashlib
import re
from collections.abc import Container, Iterable

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "kr", "l", "m", "n", "p", "pl", "r", "t", "tr", "v", "z")
_VOWELS = "aeiou"
# None ends in "s": that is the ending of a genitive or plural.
_CODAS = ("", "", "k", "l", "m", "n", "r", "x")
_LETTERS = "abcdefghjklmnpqrstuvwxyz"
# After this many failed draws of one length the next ones are longer.
_DRAWS = 4
# Once this many words are drawn, free ones of two syllables are rare: start with three.
_MANY = 10_000
_DIGITS = re.compile(r"\d+")


class Inventor:
    """Draws words and codes that are neither taken nor drawn before.

    Args:
        taken: Words and codes that must not be drawn: those of the knowledge base and the dialogues.
        seed: Determines the words and codes.
    """

    def __init__(self, *, taken: Container[str], seed: int) -> None:
        self._taken = taken
        self._seed = seed
        self._drawn: set[str] = set()

    def reserve(self, words: Iterable[str]) -> None:
        """Take more words or codes out of the draw."""
        self._drawn.update(words)

    def word(self, like: str, *, key: str) -> str:
        """Return a word of about as many syllables as `like`, at least two."""
        syllables = 3 if len(like) > 7 or len(self._drawn) > _MANY else 2
        attempt = 0
        while not self._take(word := _word(self._number(key, attempt), syllables + attempt // _DRAWS)):
            attempt += 1
        return word

    def code(self, like: str, *, key: str) -> str:
        """Return a code with digits and letters where `like` (a telephone number, a postcode) has them, without blanks.

        Leading letters and a leading zero stay: they are the code of a town.
        """
        attempt = 0
        while not self._take(code := _code(self._number(key, attempt), like + "0" * (attempt // _DRAWS))):
            attempt += 1
        return code

    def number(self, key: str, below: int) -> int:
        """Return a number from 0 to `below` - 1."""
        return self._number(key, 0) % below

    def _number(self, key: str, attempt: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._seed}/{attempt}/{key}".encode(), digest_size=32).digest(), "little")

    def _take(self, text: str) -> bool:
        if text in self._taken or text in self._drawn:
            return False
        self._drawn.add(text)
        return True


def shift_numbers(token: str, inventor: Inventor) -> str:
    """Return a token with another number of as many digits for each number in it: `517a` → `833a`.

    Two numbers of equal length never coincide: all of a length are shifted by the same amount. A zero stays.
    """

    def shifted(match: re.Match[str]) -> str:
        digits = match.group().lstrip("0")
        if not digits:
            return match.group()
        first = 10 ** (len(digits) - 1)
        count = 9 * first
        step = 1 + inventor.number(f"shift {len(digits)}", count - 1)
        return match.group()[: -len(digits)] + str(first + (int(digits) - first + step) % count)

    return _DIGITS.sub(shifted, token)


def _word(number: int, syllables: int) -> str:
    parts = []
    for _ in range(syllables):
        number, onset = divmod(number, len(_ONSETS))
        number, vowel = divmod(number, len(_VOWELS))
        parts.append(_ONSETS[onset] + _VOWELS[vowel])
    return "".join(parts) + _CODAS[number % len(_CODAS)]


def _code(number: int, like: str) -> str:
    kept = re.match(r"0|\D*", like)
    stem = kept.group() if kept else ""
    signs = []
    for sign in like[len(stem) :]:
        alphabet = "0123456789" if sign.isdigit() else _LETTERS
        number, place = divmod(number, len(alphabet))
        signs.append(alphabet[place])
    return stem + "".join(signs)
