"""Replaces the names, addresses, telephone numbers and postcodes of entities in texts, word by word and everywhere alike.

Every word that names an entity (`lensfield` in `the lensfield hotel` and in `53-57 lensfield road`) has one invented word in its
place. Words that say what kind of thing it is (`hotel`, `house`, `road`) and function words stay, so that a name keeps its number
of words and `the lensfield`, `lensfield hotel` and `the lensfield hotel` remain names of one entity. House numbers are shifted;
codes are replaced whole, however they are spaced.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from models.data.dialogue import Entity
from models.data.renew_forms import STREET, forms_of_addresses, forms_of_names, is_own, singulars, words_of
from models.data.renew_words import Inventor, shift_numbers
from models.data.value_finder import ValueFinder

_NAME_KEYS = frozenset({"name", "poi"})
_CODE_KEY = re.compile("phone|postcode|post_code|postal|zip")
_WORD = re.compile(r"[^\W_]+")
# Signs of the shortest code that is also found when it is written in pieces, and the most pieces.
_LONG_CODE, _PIECES = 5, 6


def kind_of(key: str, value: str) -> str:
    """Return what an attribute tells of an entity: `name`, `address`, `code` (telephone, postcode), or `property`."""
    if key in _NAME_KEYS:
        return "name"
    if "address" in key:
        return "address"
    return "code" if _CODE_KEY.search(key) and any(sign.isdigit() for sign in value) else "property"


class TextRenewal:
    """What becomes of names, addresses and codes of one knowledge base, in whatever text they stand.

    The same text always becomes the same, and different values become different ones.
    """

    def __init__(self, entities: Iterable[Entity], inventor: Inventor) -> None:
        """Invent the new words and codes."""
        self._inventor = inventor
        found: dict[str, dict[str, None]] = {"name": {}, "address": {}, "code": {}, "property": {}}
        for entity in entities:
            for key, value in entity.attributes.items():
                found[kind_of(key, value)][value] = None
        self._finder = ValueFinder()
        for form, level in (*forms_of_names(list(found["name"])), *forms_of_addresses(found["address"])):
            self._finder.add(form, level)
        self._words = self._cipher({word for kind in ("name", "address") for value in found[kind] for word in words_of(value)})
        codes = sorted({"".join(words_of(code)) for code in found["code"]})
        inventor.reserve(codes)
        self._codes = {code: inventor.code(code, key=f"code {code}") for code in codes}
        self.text = lru_cache(maxsize=4096)(self._text)

    def _cipher(self, words: set[str]) -> dict[str, str]:
        letters = sorted(word for word in words if word.isalpha())
        cipher = {word: self._inventor.word(word, key=f"word {word}") for word in letters}
        # "rosa ' s" is also written "rosas", and "johns" "john ' s".
        plurals = {f"{word}s": f"{new}s" for word, new in cipher.items()}
        return {singulars(word): new for word, new in cipher.items()} | plurals | cipher

    def _text(self, text: str) -> str:
        places = [match.span() for match in _WORD.finditer(text)]
        words = [text[start:end].lower() for start, end in places]
        new = {place: self._new(words[place]) for place in self._covered(words)}
        for start, end, code in self._code_spans(words):
            signs = iter(self._codes[code])
            new |= {place: "".join(next(signs) for _ in words[place]) for place in range(start, end)}
            new[end - 1] += "".join(signs)
        parts, at = [], 0
        for place in sorted(new):
            start, end = places[place]
            parts += [text[at:start], new[place]]
            at = end
        return "".join([*parts, text[at:]])

    def _new(self, word: str) -> str:
        return self._words.get(word) or shift_numbers(word, self._inventor)

    def _covered(self, words: Sequence[str]) -> set[int]:
        """Return the places of words that stand in a name or address and are its own, a street's house number included."""
        covered = set()
        for start, end, level in self._finder.spans(" ".join(words)):
            first = start
            while level == STREET and first > 0 and any(sign.isdigit() for sign in words[first - 1]):
                first -= 1
            covered |= {place for place in range(first, end) if is_own(words[place], level)}
        return covered

    def _code_spans(self, words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """Yield (first word, word after the last, code) of every code, the longest first at each place."""
        at = 0
        while at < len(words):
            for end in range(min(at + _PIECES, len(words)), at, -1):
                code = "".join(words[at:end])
                if code in self._codes and (end == at + 1 or len(code) >= _LONG_CODE):
                    yield at, end, code
                    at = end - 1
                    break
            at += 1
