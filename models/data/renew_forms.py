"""The forms in which names and addresses stand in texts, and which of their words are their own.

A form comes with a level, which says what words of it are the entity's own: those that are no kinds and no function words
(`OWN_WORDS`; with `STREET` also the house number before it); in a name like `the place`, which has kinds only, all that are no
function words (`NO_FUNCTION`); in one that has function words only, all (`EVERY_WORD`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

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
# A shortened name of one word must be this long, or, if it is said with "the", so long: shorter ones are mostly common words.
_LONG_WORD, _LONG_WITH_THE = 7, 5
# Kinds that are written in several ways.
_WRITTEN = {"guest house": ("guesthouse",), "guesthouse": ("guest house",), "bed and breakfast": ("b and b", "b b")}
_SHORTEST_GENITIVE = 4


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, lower case."""
    return _WORD.findall(text.lower())


def is_own(word: str, level: int) -> bool:
    """Whether a word of a form of that level is the entity's own."""
    if level == EVERY_WORD:
        return True
    return word not in (_FUNCTION_WORDS if level == NO_FUNCTION else _KEPT)


def level_of(words: Sequence[str]) -> int:
    """Return the lowest level at which one of the words (numbers aside) is the entity's own."""
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
