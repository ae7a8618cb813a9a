"""Learns from training dialogues in which words users ask for values ("somewhere central"), domains and attributes.

Distant supervision: the entity that a dialogue ends with has, with few exceptions, what its user asked for. Words that go with a
value of that entity far more often than chance, in dialogues whose user says no value of the attribute, mean the value.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

from models.corpus.text import contains_words
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.requests.lexicon import (
    Meaning,
    Phrase,
    Question,
    RequestLexicon,
    askable_attributes,
    clauses,
    literal_meanings,
    names_finder,
)
from models.dialogue.data.requests.vocabulary import Vocabulary
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.params.requests import RequestParams

# Enough to learn from: time and memory do not grow beyond.
_MOST_DIALOGUES = 4_000
# Words of a phrase, and the fewest dialogues that have it.
_LONGEST, _FEWEST = 5, 5
# A phrase means a value if so many of its dialogues end with it, and of those that would by chance end with another so few do;
# of the phrases that are taken no more than this share is expected to be there by chance (Benjamini and Hochberg).
# A value that most dialogues end with anyway is not learned.
_PRECISION, _OTHERS, _FALSE, _USUAL = 0.8, 0.25, 0.01, 0.5
# A phrase means a domain if so many of its dialogues are of it, and it stands in so many of that domain's.
_OF_DOMAIN, _SPREAD = 0.97, 0.02
# A value is passed over if fewer of the dialogues that say it end with it, and hardly more often than dialogues do.
_UNRELIABLE, _FEWEST_MENTIONS, _HARDLY = 0.6, 8, 1.5
# Words ask about an attribute if so many of the answers to them have a value of it, and so many times as many as of all.
_ANSWERED, _LIFT = 0.5, 3.0

Label = tuple[str, str]
"""Attribute and value; of a domain, an empty text and its name."""
Grams = Mapping[str, Sequence[int]]
"""Words → the samples that have them, rising."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A dialogue: what its user said, as clauses, and the entities it ended with, of one domain."""

    utterances: tuple[tuple[str, ...], ...]
    entities: tuple[Entity, ...]

    @property
    def domain(self) -> str:
        return self.entities[0].domain

    @property
    def clauses(self) -> Iterator[str]:
        return (words for utterance in self.utterances for words in utterance)

    def values(self, attribute: str) -> set[str]:
        return {matchable(entity.attributes[attribute]) for entity in self.entities if attribute in entity.attributes}

    def has(self, meaning: Meaning) -> bool:
        return self.domain == meaning.domain and meaning.value in self.values(meaning.attribute)


def learn_requests(turns: Iterable[Turn], index: ValueIndex, cfg: RequestParams) -> RequestLexicon:
    """Return the lexicon of a data set.

    Args:
        turns: Training turns, those of a dialogue together and in order; the first 4,000 dialogues are read.
        index: Values of the knowledge base.
        cfg: Attributes, cues, and whether anything is to be learned.
    """
    attributes = askable_attributes(index) if cfg.attributes is None else cfg.attributes
    bare = RequestLexicon(attributes, cues=cfg)
    if not cfg.learn:
        return bare
    dialogues = [list(group) for _, group in islice(groupby(turns, key=lambda turn: turn.dialogue), _MOST_DIALOGUES)]
    samples = [sample for dialogue in dialogues if (sample := _sample(dialogue, index))]
    values = _Values(samples, index, attributes)
    learned = (*values.synonyms(), *values.domains(), *values.misleading(), *values.spellings())
    phrases = tuple(sorted(set(learned), key=repr))
    known = RequestLexicon(attributes, phrases, tuple(sorted(values.unreliable)), cues=cfg)
    questions = tuple(_questions(dialogues, Vocabulary(index.kb, known), values.grams))
    return RequestLexicon(attributes, phrases, known.unreliable, questions, cfg)


def _sample(dialogue: Sequence[Turn], index: ValueIndex) -> _Sample | None:
    last = next((turn for turn in reversed(dialogue) if turn.gold_entities), None)  # its context has all that was said before
    if last is None:
        return None
    entities = [index.kb[row] for row in index.kb.rows(last.gold_entities)]
    same = tuple(entity for entity in entities if entity.domain == entities[0].domain)
    return _Sample(tuple(tuple(clauses(text)) for text in last.context[::2]), same)


def _without_failures(samples: Iterable[_Sample], index: ValueIndex, literals: Mapping[str, Sequence[Meaning]]) -> list[_Sample]:
    """Leave out what users said with values that no entity combines: they had to ask for something else."""
    finder, texts = _finder_of(literals), list(literals)
    rows: dict[Meaning, set[int]] = {}
    for row, entity in enumerate(index.kb.entities):
        for attribute, value in entity.attributes.items():
            rows.setdefault(Meaning(entity.domain, attribute, matchable(value)), set()).add(row)

    def possible(said: Sequence[str], domain: str) -> bool:
        found = {number for words in said for *_, number in finder.longest_spans(words)}
        allowed: dict[str, set[int]] = {}
        for meaning in (m for number in found for m in literals[texts[number]] if m.domain == domain):
            allowed.setdefault(meaning.attribute, set()).update(rows[meaning])
        return not allowed or bool(set.intersection(*allowed.values()))

    return [_Sample(tuple(u for u in s.utterances if possible(u, s.domain)), s.entities) for s in samples]


class _Values:
    """What the samples teach about values and domains; names, and values whose mention can be relied on, are known before."""

    def __init__(self, samples: Sequence[_Sample], index: ValueIndex, attributes: Sequence[str]) -> None:
        self._attributes = attributes
        self._domains = tuple(dict.fromkeys(entity.domain for entity in index.kb.entities))
        self._names = names_finder(index.kb)
        literals = literal_meanings(index.kb, attributes)
        self._samples = _without_failures(samples, index, literals)
        self.unreliable = frozenset(self._rarely_meant(literals, lambda words, start, end: [" ".join(words[start:end])]).values())
        kept = {words: [m for m in meanings if m not in self.unreliable] for words, meanings in literals.items()}
        self._literals = {words: meanings for words, meanings in kept.items() if meanings}
        self._finder, self._texts = _finder_of(self._literals), list(self._literals)

    def synonyms(self) -> Iterator[Phrase]:
        """Yield the words that mean a value without being one."""
        homes: dict[tuple[str, str], list[Meaning]] = {}
        for meaning in dict.fromkeys(meaning for meanings in self._literals.values() for meaning in meanings):
            homes.setdefault((meaning.attribute, meaning.value), []).append(meaning)
        for attribute in self._attributes:
            silent = [sample for sample in self._samples if sample.values(attribute) and not self._says(sample, attribute)]
            labels = [{(attribute, value) for value in sample.values(attribute)} & homes.keys() for sample in silent]
            rare = {label for label in homes if label[0] == attribute and self._usual(label) <= _USUAL}
            for words, label in _telling(self._grams_of(silent), [mine & rare for mine in labels], precision=_PRECISION):
                yield from (Phrase(words, meaning) for meaning in homes[label])

    def _usual(self, label: Label) -> float:
        """Return the share of a value among the dialogues that end with an entity that has the attribute."""
        attribute, value = label
        homes = {m.domain for meanings in self._literals.values() for m in meanings if (m.attribute, m.value) == label}
        having = [value in values for s in self._samples if s.domain in homes and (values := s.values(attribute))]
        return sum(having) / max(1, len(having))

    def spellings(self) -> Iterator[Phrase]:
        """Yield other spellings of values that users write: `guest house`, `4 stars`."""
        squeezed = {words.replace(" ", "") + end: words for end in ("s", "") for words in self._literals}
        written = {gram for sample in self._samples for words in sample.clauses for gram in _parts(words, _LONGEST)}
        for gram in written - self._literals.keys():
            if value := squeezed.get(gram.replace(" ", "")):
                yield from (Phrase(gram, meaning) for meaning in self._literals[value])

    def domains(self) -> Iterator[Phrase]:
        """Yield the words that mean a domain, where there are several."""
        if len(self._domains) > 1:
            labels = [{("", sample.domain)} for sample in self._samples]
            grams, num = self._grams_of(self._samples), Counter(sample.domain for sample in self._samples)
            for words, (_, domain) in _telling(grams, labels, precision=_OF_DOMAIN):
                if len(grams[words]) >= _SPREAD * num[domain]:
                    yield Phrase(words, Meaning(domain))

    def misleading(self) -> Iterator[Phrase]:
        """Yield the words around a value with which it is not meant: "two people"."""
        for words in self._rarely_meant(self._literals, _around):
            yield Phrase(words, None)

    def grams(self, words: str) -> Iterator[str]:
        """Yield the runs of up to five words of a clause that hold no name and no value."""
        parts = words.split()
        spans = [*self._names.longest_spans(words), *self._finder.longest_spans(words)]
        taken = sorted({place for start, end, _ in spans for place in range(start, end)})
        for before, after in pairwise([-1, *taken, len(parts)]):
            for start in range(before + 1, after):
                for end in range(start + 1, min(start + _LONGEST, after) + 1):
                    yield " ".join(parts[start:end])

    def _grams_of(self, samples: Sequence[_Sample]) -> Grams:
        return _by_gram({gram for words in sample.clauses for gram in self.grams(words)} for sample in samples)

    def _says(self, sample: _Sample, attribute: str) -> bool:
        found = {number for words in sample.clauses for *_, number in self._finder.longest_spans(words)}
        meant = (meaning for number in found for meaning in self._literals[self._texts[number]])
        return any((meaning.domain, meaning.attribute) == (sample.domain, attribute) for meaning in meant)

    def _rarely_meant(
        self, literals: Mapping[str, Sequence[Meaning]], forms: Callable[[list[str], int, int], Iterable[str]]
    ) -> dict[str, Meaning]:
        """Return forms in which a value is said → the value, where few of the dialogues that say it so end with it."""
        finder, texts = _finder_of(literals), list(literals)
        hits: dict[tuple[str, Meaning], list[bool]] = defaultdict(list)
        for sample in self._samples:
            said = {
                (form, meaning)
                for words in sample.clauses
                for start, end, number in finder.longest_spans(words)
                for meaning in literals[texts[number]]
                if meaning.domain == sample.domain
                for form in forms(words.split(), start, end)
            }
            for form, meaning in said:
                hits[form, meaning].append(sample.has(meaning))
        usual = Counter(
            m for s in self._samples for a in self._attributes for m in (Meaning(s.domain, a, v) for v in s.values(a))
        )
        num = Counter(sample.domain for sample in self._samples)
        return {
            form: meaning
            for (form, meaning), found in hits.items()
            if len(found) >= _FEWEST_MENTIONS
            and sum(found) / len(found) < _UNRELIABLE
            and sum(found) / len(found) < _HARDLY * usual[meaning] / num[meaning.domain]
        }


def _around(words: Sequence[str], start: int, end: int) -> Iterator[str]:
    """Yield a value with the word before it, with the one after it, and with both."""
    for first, last in ((start - 1, end), (start, end + 1), (start - 1, end + 1)):
        if first >= 0 and last <= len(words):
            yield " ".join(words[first:last])


def _questions(
    dialogues: Iterable[Sequence[Turn]], vocabulary: Vocabulary, grams: Callable[[str], Iterator[str]]
) -> Iterator[Question]:
    """Yield the words in what a system says that are answered by a value of an attribute."""
    said: list[set[str]] = []
    answers: list[set[str]] = []
    for dialogue in dialogues:
        context = dialogue[-1].context
        for question, answer in zip(context[1::2], context[2::2], strict=True):
            said.append({gram for words in clauses(question) for gram in grams(words)})
            answers.append({m.attribute for words in clauses(answer) for one in vocabulary.heard(words) for m in one.meanings})
    base = Counter(attribute for answer in answers for attribute in answer)
    by_gram = {gram: places for gram, places in _by_gram(said).items() if len(places) >= 2 * _FEWEST}
    found: set[tuple[str, str]] = set()
    for gram in sorted(by_gram, key=lambda gram: (len(gram.split()), gram)):
        places = by_gram[gram]
        for attribute, hits in Counter(attribute for place in places for attribute in answers[place]).items():
            usual = base[attribute] / len(answers)
            telling = hits / len(places) >= max(_ANSWERED, _LIFT * usual) and _chance(hits, len(places), usual) < _FALSE / len(
                by_gram
            )
            if telling and not any((part, attribute) in found for part in _parts(gram, _LONGEST)):
                found.add((gram, attribute))
                yield Question(gram, attribute)


def _parts(text: str, longest: int) -> Iterator[str]:
    words = text.split()
    return (" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + longest, len(words)) + 1))


def _telling(grams: Grams, labels: Sequence[Collection[Label]], *, precision: float) -> Iterator[tuple[str, Label]]:
    """Yield the words that tell a label; words that stand in the same samples are told apart by nothing, and all are yielded."""
    base = Counter(label for mine in labels for label in mine)
    alike: dict[tuple[int, ...], list[str]] = {}
    for gram, places in grams.items():
        if len(places) >= _FEWEST:
            alike.setdefault(tuple(places), []).append(gram)
    tests: list[tuple[float, tuple[str, ...], Label]] = []
    for places, same in alike.items():
        for label, hits in Counter(label for place in places for label in labels[place]).items():
            share, usual = hits / len(places), base[label] / len(labels)
            if share >= precision and 1 - share <= _OTHERS * (1 - usual):
                tests.append((_chance(hits, len(places), usual), tuple(sorted(same)), label))
    tests.sort()
    kept = max((rank for rank, (chance, *_) in enumerate(tests, start=1) if chance <= _FALSE * rank / len(alike)), default=0)
    found: dict[Label, list[str]] = {}
    for _, alike_, label in tests[:kept]:  # of words within words, those that tell it best
        known = found.setdefault(label, [])
        new = [gram for gram in alike_ if not any(contains_words(gram, old) or contains_words(old, gram) for old in known)]
        known += new
        yield from ((gram, label) for gram in new)


def _by_gram(samples: Iterable[Collection[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, grams in enumerate(samples):
        for gram in grams:
            found.setdefault(gram, []).append(place)
    return found


def _finder_of(texts: Iterable[str]) -> ValueFinder:
    finder = ValueFinder()
    for text in texts:
        finder.add(text)
    return finder


def _chance(hits: int, num: int, usual: float) -> float:
    """Return Chernoff's bound on the probability of so many hits, each with probability `usual`: exp(−n·KL(h/n ‖ usual))."""
    share = hits / num
    if share <= usual or not 0 < usual < 1:
        return 1.0
    rest = (1 - share) * math.log((1 - share) / (1 - usual)) if share < 1 else 0.0
    return math.exp(-num * (share * math.log(share / usual) + rest))
