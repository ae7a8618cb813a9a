"""What words of a user's utterance mean over one knowledge base: values, domains, attributes, refusals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.corpus.text import without_blanks
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.requests.lexicon import Meaning, RequestLexicon, literal_meanings, names_finder
from models.dialogue.data.value_finder import ValueFinder, matchable

# A refusal reaches so many words far ("not in the very centre").
_REACH = 4
# An attribute's name may be written in so many words ("price range").
_NAME_WORDS, _SHORTEST = 3, 4
_VALUE = "…"


@dataclass(frozen=True, slots=True)
class Heard:
    """Words of a clause that hold a value, of one or several attributes; `refused` by a word near them."""

    start: int
    end: int
    meanings: tuple[Meaning, ...]
    refused: bool = False


class Vocabulary:
    """The words that matter, as finders: memory grows with the distinct values and the lexicon, not with the rows.

    Attributes:
        domains: The domains of the knowledge base.
    """

    def __init__(self, kb: KnowledgeBase, lexicon: RequestLexicon) -> None:
        """Take the values that the knowledge base has now, and the words that the lexicon has learned."""
        self.domains = tuple(dict.fromkeys(entity.domain for entity in kb.entities))
        self._names = names_finder(kb)
        meanings = _meanings(kb, lexicon)
        self._finder, self._meanings = _finder(meanings), list(map(tuple, meanings.values()))
        homes = _domain_words(lexicon, self.domains)
        self._homes, self._home_of = _finder(homes), list(homes.values())
        self._questions = _finder(question.words for question in lexicon.questions)
        self._asked = [question.attribute for question in lexicon.questions]
        self._attributes = {without_blanks(name): name for name in lexicon.attributes}
        self._cues = _Cues(lexicon)

    def heard(self, words: str) -> list[Heard]:
        """Return what stands in a clause (a `matchable` text), in its order; a "north" in a name is not heard."""
        named = {place for start, end, _ in self._names.longest_spans(words) for place in range(start, end)}
        spans = [s for s in self._finder.longest_spans(words) if not named.issuperset(range(s[0], s[1]))]
        refused = self._cues.refused(words, spans)
        return [
            Heard(start, end, self._meanings[number], refused=mark)
            for (start, end, number), mark in zip(spans, refused, strict=True)
            if self._meanings[number]
        ]

    def domains_in(self, words: str) -> list[tuple[int, str]]:
        """Return the domains that a clause names, each with the place where, in their order."""
        return [(start, self._home_of[number]) for start, _, number in self._homes.longest_spans(words)]

    def is_careless(self, words: str) -> bool:
        """Whether a clause says that something does not matter."""
        return self._cues.careless(words)

    def asked(self, words: str) -> frozenset[str]:
        """Return the attributes that a system asks about in a `matchable` text: those it names, else what such words ask for."""
        return self.named(words) or frozenset(self._asked[number] for *_, number in self._questions.spans(words))

    def spoken_of(self, words: str) -> frozenset[str]:
        """Return the attributes that a user names in a clause, in a word of their own or in several as systems ask for them."""
        asked = {self._asked[number] for start, end, number in self._questions.spans(words) if end - start > 1}
        return self.named(words) or frozenset(asked)

    def named(self, words: str) -> frozenset[str]:
        """Return the attributes whose name stands in a `matchable` text: "price range" or "price" for `pricerange`."""
        parts, found = words.split(), set()
        for start in range(len(parts)):
            for end in range(start + 1, min(start + _NAME_WORDS, len(parts)) + 1):
                text = "".join(parts[start:end])
                found |= {name for squeezed, name in self._attributes.items() if _is_name(text, squeezed)}
        return frozenset(found)


def _is_name(text: str, name: str) -> bool:
    """Whether a word is an attribute's name, or most of it ("star", "price")."""
    return text == name or (len(text) >= _SHORTEST and name.startswith(text))


def _domain_words(lexicon: RequestLexicon, domains: Sequence[str]) -> dict[str, str]:
    """Return words → the domain that they name, where there are several."""
    learned = {p.words: p.meaning.domain for p in lexicon.phrases if p.meaning is not None and not p.meaning.attribute}
    names = {matchable(domain): domain for domain in domains if matchable(domain)}
    return learned | names if len(domains) > 1 else {}


def _meanings(kb: KnowledgeBase, lexicon: RequestLexicon) -> dict[str, list[Meaning]]:
    """Return words → what they mean; nothing where they hide a value that is not meant."""
    unreliable = set(lexicon.unreliable)
    literal = literal_meanings(kb, lexicon.attributes).items()
    found = {words: kept for words, meanings in literal if (kept := [m for m in meanings if m not in unreliable])}
    for words, meaning in ((phrase.words, phrase.meaning) for phrase in lexicon.phrases):
        if meaning is None:
            found[words] = []
        elif meaning.attribute and meaning not in found.setdefault(words, []):
            found[words].append(meaning)
    return found


def _finder(texts: Iterable[str]) -> ValueFinder:
    finder = ValueFinder()
    for number, words in enumerate(texts):
        finder.add(words, number)
    return finder


class _Cues:
    """Words of refusal and of indifference; of two that overlap the longer one is meant ("don't care", "don't")."""

    def __init__(self, lexicon: RequestLexicon) -> None:
        cues = lexicon.cues
        self._kinds: list[str] = []
        self._finder = ValueFinder()
        for kind, texts in (("careless", cues.indifference), ("contrast", cues.contrasts)):
            for text in texts:
                self._add(text, kind)
        for text in cues.refusals:
            bare = text.strip()
            kind = "next" if bare.endswith(_VALUE) else "before" if bare.startswith(_VALUE) else "refusal"
            self._add(bare.strip(_VALUE), kind)

    def careless(self, words: str) -> bool:
        return any(kind == "careless" for *_, kind in self._spans(words))

    def refused(self, words: str, spans: Sequence[tuple[int, int, int]]) -> list[bool]:
        """Return for each span of a clause whether it is refused; a word within a longer phrase refuses nothing."""
        inside = {place for start, end, _ in spans for place in range(start, end)}
        cues = [cue for cue in self._spans(words) if not inside.intersection(range(cue[0], cue[1]))]
        ends = [start for start, _, kind in cues if kind == "contrast"]
        return [any(_reaches(cue, start, end, ends) for cue in cues) for start, end, _ in spans]

    def _spans(self, words: str) -> list[tuple[int, int, str]]:
        return [(start, end, self._kinds[number]) for start, end, number in self._finder.longest_spans(words)]

    def _add(self, text: str, kind: str) -> None:
        words = matchable(text)
        if words and words not in self._finder:
            self._finder.add(words, len(self._kinds))
            self._kinds.append(kind)


def _reaches(cue: tuple[int, int, str], start: int, end: int, contrasts: Sequence[int]) -> bool:
    first, last, kind = cue
    if kind == "before":
        return first == end
    if kind == "next":
        return last == start
    between = any(last <= place < start for place in contrasts)
    return kind == "refusal" and 0 <= start - last <= _REACH and not between
