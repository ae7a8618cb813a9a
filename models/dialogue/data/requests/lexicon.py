"""The words in which users ask for values: a small record, learned from training dialogues, that goes with a data set."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models.corpus.text import fold_characters
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.errors import ArtifactError
from models.files import write_atomic
from models.params.requests import RequestParams
from models.records import from_row, to_row

REQUESTS = "requests.json"
# What separates clauses: punctuation, but not between digits (`4.5`, `7:30`).
_CLAUSE = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|[;!?()。、，；！？]")


# An answer to any question; no value that a user would ask for in these words.
_NO_WISHES = frozenset({"", "yes", "no"})


@dataclass(frozen=True, slots=True, order=True)
class Meaning:
    """A value of an attribute in a domain; as a domain itself, `attribute` and `value` are empty."""

    domain: str
    attribute: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Phrase:
    """Words (as `matchable` gives them) that mean one of the user's wishes; None = they mean none, though they hold a value."""

    words: str
    meaning: Meaning | None


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """Words that speak of an attribute without a value of it: `part of town`."""

    words: str
    attribute: str


@dataclass(frozen=True, slots=True)
class RequestLexicon:
    """How users of one data set ask.

    Attributes:
        attributes: Attributes that can be asked for.
        phrases: Words that mean a value or a domain, and words around a value that make it mean something else.
        unreliable: Values whose mention says nothing about what is wanted.
        questions: Words that speak of an attribute.
        cues: The words for refusing a value and for not caring.
    """

    attributes: tuple[str, ...]
    phrases: tuple[Phrase, ...] = ()
    unreliable: tuple[Meaning, ...] = ()
    questions: tuple[Question, ...] = ()
    cues: RequestParams = field(default_factory=RequestParams)

    def write(self, folder: Path) -> None:
        """Write `requests.json` into a folder."""
        row = {**to_row(self), "cues": self.cues.model_dump(mode="json")}
        write_atomic(folder / REQUESTS, json.dumps(row, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "RequestLexicon":
        """Return the lexicon of a folder.

        Raises:
            ArtifactError: The folder has none, or it is damaged.
        """
        path = folder / REQUESTS
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            cues = RequestParams.model_validate(row.pop("cues"))
            return from_row(cls, {**row, "cues": cues})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path} must be the lexicon that `prepare` writes, but is not ({error!r}). Run `prepare`."
            ) from error


def askable_attributes(index: ValueIndex) -> tuple[str, ...]:
    """Return the attributes of a knowledge base that describe an entity without identifying it: no names, no addresses."""
    firsts = {next(iter(entity.attributes), "") for entity in index.kb.entities}
    return tuple(a for a in index.kb.attributes if a not in firsts and a not in index.identifying_attributes)


def literal_meanings(kb: KnowledgeBase, attributes: Iterable[str]) -> dict[str, list[Meaning]]:
    """Return the values of the knowledge base as words → what they mean, for those attributes.

    An attribute that has one value in a whole domain cannot be asked for there.
    """
    found: dict[str, dict[Meaning, None]] = {}
    values: dict[tuple[str, str], set[str]] = {}
    asked = frozenset(attributes)
    read: dict[str, str] = {}
    for entity in kb.entities:
        for attribute, value in entity.attributes.items():
            if attribute in asked:
                words = read.setdefault(value, matchable(value))
                found.setdefault(words, {})[Meaning(entity.domain, attribute, words)] = None
                values.setdefault((entity.domain, attribute), set()).add(words)
    several = {
        words: [m for m in meanings if len(values[m.domain, m.attribute]) > 1]
        for words, meanings in found.items()
        if words not in _NO_WISHES
    }
    return {words: meanings for words, meanings in several.items() if meanings}


def names_finder(kb: KnowledgeBase) -> ValueFinder:
    """Return a finder of the names of a knowledge base."""
    finder = ValueFinder()
    for name in {matchable(entity.name) for entity in kb.entities} - {""}:
        finder.add(name)
    return finder


def clauses(utterance: str) -> Iterator[str]:
    """Yield the clauses of an utterance as `matchable` texts; none is empty."""
    for part in _CLAUSE.split(fold_characters(utterance)):
        if words := matchable(part):
            yield words
