"""Reads from a dialogue what its user has asked for so far, and finds the rows of the knowledge base that satisfy it.

Only the user's words count: what the system says is an offer or a question. A later value of an attribute takes the place of the
earlier ones, values of one utterance are alternatives, a refused value stays refused until it is asked for, and an attribute that
the user does not care about is free. Wishes hold for the domain they were made in. Names are no wishes: who names an entity
knows it already.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.requests.lexicon import Meaning, RequestLexicon, clauses
from models.dialogue.data.requests.vocabulary import Heard, Vocabulary
from models.dialogue.data.value_finder import matchable

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants of one attribute: one of `values` (empty: anything), and none of `refused`."""

    attribute: str
    values: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    def allows(self, value: str | None) -> bool:
        """Whether an entity with this value (as `matchable` gives it; None: it has none) is what the user wants."""
        return (not self.values or value in self.values) and value not in self.refused


@dataclass(frozen=True, slots=True)
class Request:
    """What a user has asked for: a wish for each attribute at most; `domain` is empty where it is not known."""

    domain: str = ""
    wishes: tuple[Wish, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was asked for."""
        return bool(self.wishes)


@dataclass(slots=True)
class _State:
    """Wishes by domain and attribute, as the reading goes on."""

    domain: str
    fixed: bool
    wishes: dict[str, dict[str, Wish]] = field(default_factory=dict)

    def enter(self, domain: str) -> None:
        """Let the dialogue turn to a domain; what was asked for before any domain was known holds for it."""
        if not self.fixed and domain != self.domain:
            self.wishes[domain] = self.wishes.pop("", {}) | self.wishes.get(domain, {})
            self.domain = domain

    def ask(self, domain: str, attribute: str, wanted: set[str], refused: set[str]) -> None:
        before = self.wishes.get(domain, {}).get(attribute, Wish(attribute))
        values = frozenset(wanted - refused) or before.values - refused
        self._set(domain, Wish(attribute, values, (before.refused - wanted) | refused))

    def free(self, attribute: str) -> None:
        self._set(self.domain, Wish(attribute))

    def _set(self, domain: str, wish: Wish) -> None:
        mine = self.wishes.setdefault(domain, {})
        mine.pop(wish.attribute, None)
        if wish.values or wish.refused:
            mine[wish.attribute] = wish


class RequestReader:
    """Reads requests over one knowledge base, with its values as they are now. N rows, A attributes, at most 4·N·A bytes.

    Attributes:
        attributes: Attributes that can be asked for.
    """

    def __init__(self, kb: KnowledgeBase, lexicon: RequestLexicon) -> None:
        """Index the values of the attributes that can be asked for."""
        self.attributes = lexicon.attributes
        self._words = Vocabulary(kb, lexicon)
        self._domain_of = np.array([self._words.domains.index(entity.domain) for entity in kb.entities], dtype=np.int32)
        self._columns: dict[str, npt.NDArray[np.int32]] = {}
        self._values: dict[str, list[str | None]] = {}
        read: dict[str, str] = {}
        for name in lexicon.attributes:
            known: dict[str | None, int] = {None: 0}
            cells = (entity.attributes.get(name) for entity in kb.entities)
            texts = (None if cell is None else read.setdefault(cell, matchable(cell)) for cell in cells)
            self._columns[name] = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int32)
            self._values[name] = list(known)

    def read(self, context: Sequence[str], *, domain: str | None = None) -> Request:
        """Return what the user has asked for.

        Args:
            context: Utterances, oldest first, the user's first; user and system take turns.
            domain: The domain in question; None, or one that the knowledge base lacks: as the user's words tell.
        """
        known = self._words.domains
        fixed = domain in known
        state = _State(domain if domain is not None and fixed else known[0] if len(known) == 1 else "", fixed=fixed)
        for place in range(0, len(context), 2):
            self._take_in(context[place], matchable(context[place - 1]) if place else "", state)
        held = state.wishes.get(state.domain, {})
        return Request(state.domain, tuple(held[name] for name in self.attributes if name in held))

    def rows(self, request: Request, *, within: Iterable[int] | None = None) -> Ints:
        """Return the rows that satisfy a request, ascending: of the whole knowledge base, or of those `within`."""
        rows = np.arange(len(self._domain_of)) if within is None else np.unique(np.array(list(within), dtype=np.int64))
        if request.domain:
            rows = rows[self._domain_of[rows] == self._words.domains.index(request.domain)]
        for wish in request.wishes:
            allowed = np.array([wish.allows(value) for value in self._values[wish.attribute]])
            rows = rows[allowed[self._columns[wish.attribute][rows]]]
        return rows.astype(np.int64)

    def _take_in(self, utterance: str, question: str, state: _State) -> None:
        """Take in one utterance of the user, after what the system said (a `matchable` text)."""
        asked = self._words.asked(question)
        given: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
        free: list[frozenset[str]] = []
        for words in clauses(utterance):
            heard, homes = self._words.heard(words), self._words.domains_in(words)
            self._turn_to_domain(heard, homes, state)
            for one in heard:
                where = (
                    state.domain if state.fixed or not homes else min((abs(place - one.start), name) for place, name in homes)[1]
                )
                if meaning := _choose(one.meanings, where, asked):
                    wanted, refused = given.setdefault((where, meaning.attribute), (set(), set()))
                    (refused if one.refused else wanted).add(meaning.value)
            if self._words.is_careless(words):
                free.append(self._words.spoken_of(words) or asked - self._restated(question, state))
        before = dict(state.wishes.get(state.domain, {}))
        failed = bool(before) and not len(self.rows(Request(state.domain, tuple(before.values()))))
        for (where, attribute), (wanted, refused) in given.items():
            state.ask(where, attribute, wanted, refused)
        for attribute in frozenset().union(*free) - {attribute for _, attribute in given}:
            state.free(attribute)
        now = state.wishes.get(state.domain, {})
        new = {attribute for where, attribute in given if where == state.domain}
        if failed and new and not len(self.rows(Request(state.domain, tuple(now.values())))):
            # What nothing satisfies, before and after, is given up for what is asked for now.
            state.wishes[state.domain] = {name: wish for name, wish in now.items() if name in new}

    def _restated(self, question: str, state: _State) -> frozenset[str]:
        """Return the attributes of which a system has just said the value that the user wants: it does not ask for those."""
        said = {(m.attribute, m.value) for one in self._words.heard(question) for m in one.meanings}
        held = state.wishes.get(state.domain, {})
        return frozenset(name for name, wish in held.items() if any((name, value) in said for value in wish.values))

    def _turn_to_domain(self, heard: Sequence[Heard], homes: Sequence[tuple[int, str]], state: _State) -> None:
        """Let the domain named last be in question; where none is, the one that alone has the values said."""
        if homes:
            state.enter(homes[-1][1])
            return
        having = [{meaning.domain for meaning in one.meanings} for one in heard]
        shared = set.intersection(*having) if having else set()
        if len(shared) == 1:
            state.enter(next(iter(shared)))


def _choose(meanings: Sequence[Meaning], domain: str, asked: frozenset[str]) -> Meaning | None:
    """Return what a value means in a domain: of the attribute that was asked about, else the first; None = nothing there."""
    here = [m for m in meanings if m.attribute and (not domain or m.domain == domain)]
    return next((m for m in here if m.attribute in asked), next(iter(here), None))
