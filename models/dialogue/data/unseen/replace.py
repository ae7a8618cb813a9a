"""Replaces names, addresses, telephone numbers and postcodes of entities in texts, in every form in which they are written."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from models.dialogue.data.records import Entity
from models.dialogue.data.unseen.words import Inventor, shift_numbers
from models.dialogue.data.value_finder import ValueFinder

OWN_WORDS, STREET, NO_FUNCTION, EVERY_WORD = range(4)
_FUNCTION_WORDS = frozenset("a an and at by de del di du for in la le of on or s st the to".split())
_STREETS = frozenset(
    "alley avenue close court crescent drive gardens hill lane parade passage path place rd road row square street terrace walk "
    "way yard".split()
)
_KINDS = frozenset(
    "bar bed bistro boat brasserie breakfast building business cafe centre center chapel church cinema city club college "
    "company diner gallery garage garden grill grocery guest guesthouse hall hospital hostel hotel house inn kitchen "
    "library lodge market motel museum noodle park parking pizza pizzeria pool pools pub restaurant shop station store "
    "takeaway tavern theatre town university village".split()
)
_KEPT = _FUNCTION_WORDS | _STREETS | _KINDS
_WORD = re.compile(r"[^\W_]+")
# Shortest shortened name of one word, alone and with "the" before it: shorter ones are mostly common words.
_LONG_WORD, _LONG_WITH_THE = 7, 5
# Kinds that are written in several ways.
_WRITTEN = {"guest house": ("guesthouse",), "guesthouse": ("guest house",), "bed and breakfast": ("b and b", "b b")}
_SHORTEST_GENITIVE = 4


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, lower case."""
    return _WORD.findall(text.lower())


def is_own(word: str, level: int) -> bool:
    """Whether a word in a form of the given level is specific to the entity."""
    if level == EVERY_WORD:
        return True
    return word not in (_FUNCTION_WORDS if level == NO_FUNCTION else _KEPT)


def level_of(words: Sequence[str]) -> int:
    """Return the lowest level at which one of the words (numbers aside) is specific to the entity."""
    telling = [word for word in words if word.isalpha()] or words
    return next((level for level in (OWN_WORDS, NO_FUNCTION) if any(is_own(word, level) for word in telling)), EVERY_WORD)


def singulars(word: str) -> str:
    """Return a word without the "s" at its end, which may be a genitive's; a short one as it is."""
    return word[:-1] if len(word) >= _SHORTEST_GENITIVE and word.endswith("s") else word


def forms_of_names(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield (form, level) of every name, of its shortened forms, and of other spellings of its genitives."""
    usage = Counter(word for name in names for word in set(words_of(name)))
    for name in names:
        words = words_of(name)
        level = level_of(words)
        for form in _shortened(words, level):
            if form == words or len(form) > 1:
                yield from ((" ".join(spelt), level) for spelt in _spellings(form))
            elif usage[form[0]] == 1 and len(form[0]) >= _LONG_WITH_THE:
                said = form if len(form[0]) >= _LONG_WORD else ["the", *form]
                yield from ((" ".join(spelt), level) for spelt in _spellings(said))


def forms_of_addresses(addresses: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield (form, level) of every address, and of each street in it."""
    for address in addresses:
        words = words_of(address)
        if words:
            level = level_of(words)
            yield from ((" ".join(spelt), level) for spelt in _spellings(words))
        street: list[str] = []
        for word in words:
            street = [*street, word] if word.isalpha() else []
            if word in _STREETS:
                if len(street) > 1 and level_of(street) == OWN_WORDS:
                    yield from ((" ".join(spelt), STREET) for spelt in _spellings(street))
                street = []


def _shortened(words: list[str], level: int) -> Iterator[list[str]]:
    """Yield a name's words: all; without "the"; without its kind at the end; without its kind at the beginning."""
    if not words:
        return
    yield words
    rest = words[1:] if words[0] == "the" else words
    if level != OWN_WORDS:
        if len(rest) > 1:
            yield rest
        return
    own = [place for place, word in enumerate(rest) if is_own(word, level)]
    whole = [rest, rest[: own[-1] + 1], words[: len(words) - len(rest) + own[-1] + 1]]
    yield from (form for form in whole if form != words)
    if len(rest) - own[0] > 1:
        yield rest[own[0] :]


def _spellings(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the words; with another way to write their kind; with "rosa s" in one word, or "johns" in two."""
    yield list(words)
    for kind, others in _WRITTEN.items():
        if f" {kind} " in f" {' '.join(words)} ":
            yield from (f" {' '.join(words)} ".replace(f" {kind} ", f" {other} ").split() for other in others)
    for place, word in enumerate(words):
        if word == "s" and place:
            yield [*words[: place - 1], f"{words[place - 1]}s", *words[place + 1 :]]
        elif singulars(word) != word:
            yield [*words[:place], singulars(word), "s", *words[place + 1 :]]


_NAME_KEYS = frozenset({"name", "poi"})
_CODE_KEY = re.compile("phone|postcode|post_code|postal|zip")
# Length of the shortest code that is also found when written in pieces, and the most pieces.
_LONG_CODE, _PIECES = 5, 6


def kind_of(key: str, value: str) -> str:
    """Return what kind of information an attribute holds: `name`, `address`, `code` (telephone, postcode), or `property`."""
    if key in _NAME_KEYS:
        return "name"
    if "address" in key:
        return "address"
    return "code" if _CODE_KEY.search(key) and any(sign.isdigit() for sign in value) else "property"


class TextReplacer:
    """Replacement of names, addresses and codes of one knowledge base in any text.

    Equal texts are replaced by equal ones, and different values by different ones.
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
        """Return the places of words that occur in a name or address and are specific to it, a street's house number included."""
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
