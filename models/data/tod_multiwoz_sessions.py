"""The dialogue's own knowledge base of MultiWOZ text that came without one: aligned to CDNet's dialogues, or rebuilt."""

from collections import Counter
from collections.abc import Mapping, Sequence

from models.data.condensed import fill_up
from models.data.dialogue import Entity
from models.data.pseudo_positive import ValueIndex
from models.data.text import PUBLISHED
from models.data.tod_multiwoz_cdnet import CdnetTurn, Session
from models.data.tod_multiwoz_graphdialog import TextDialogue
from models.data.tod_multiwoz_mentions import VenueNames, british

SESSION_SIZE = 7
# Two copies of one dialogue share nine of ten words, two dialogues less than half.
_LEAST_SHARED = 0.7


def align(dialogues: Sequence[TextDialogue], annotated: Mapping[int, Sequence[CdnetTurn]]) -> dict[int, Session]:
    """Return the session of each text dialogue (by its number) whose annotated copy is there.

    Copies differ in punctuation and spelling, so the copy is the dialogue of the same domain with most words in common
    (multiset Jaccard, at least 0.7); a few first utterances occur in several dialogues, so all utterances count.
    """
    bags = {number: (turns[-1].domain, _bag(*turns[-1].context, turns[-1].response)) for number, turns in annotated.items()}
    sessions = {}
    for dialogue in dialogues:
        bag = _bag(*(text for exchange in dialogue.exchanges for text in exchange))
        shared = {n: _shared(bag, other) for n, (domain, other) in bags.items() if domain == dialogue.domain}
        best = max(shared, key=lambda n: (shared[n], -n), default=None)
        if best is not None and shared[best] >= _LEAST_SHARED:
            sessions[dialogue.number] = annotated[best][-1].session
    return sessions


def rebuilt(dialogue: TextDialogue, names: VenueNames, index: ValueIndex, *, key: str) -> tuple[Entity, ...]:
    """Return seven venues in the knowledge base's order: those that the dialogue names, then those that fit the user's wishes.

    Venues of the dialogue's domain that have most of the values which the user says come first; `key` (the dialogue) decides
    among equals.
    """
    everything = " . ".join(text for exchange in dialogue.exchanges for text in exchange)
    named = [index.kb.row_of[entity.id] for entity in names.named(everything, domain=dialogue.domain)]
    wishes = [british(dialogue.user_text())]
    rows = fill_up(named, index, size=SESSION_SIZE, like=wishes, key=key, domain=dialogue.domain)
    return tuple(index.kb[row] for row in rows)


def _bag(*texts: str) -> Counter[str]:
    return Counter(PUBLISHED.normalise(" ".join(texts)).split())


def _shared(one: Counter[str], other: Counter[str]) -> float:
    both = (one & other).total()
    return both / max(one.total() + other.total() - both, 1)
