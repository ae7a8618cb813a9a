"""Validation of turns and knowledge bases of every reader, and their statistics."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.corpus.fields import BadRecord
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.readers.base import ReadLog
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError, Problem
from models.schema import Split


def checked_kb(entities: Sequence[Entity]) -> KnowledgeBase:
    """Return the knowledge base; entities may lack attributes or have some of their own, but none is without a name.

    Raises:
        DataError: There is no entity, two share an id, or one has no attributes.
    """
    problems = [Problem(f"entity `{e.id}`", "must have a name (its first attribute)") for e in entities if not e.name]
    if not entities:
        problems = [Problem("the knowledge base", "must have at least one entity")]
    if problems:
        raise DataError("The knowledge base cannot be used", problems)
    return KnowledgeBase(entities)


class TurnChecks:
    """Checks turns over all splits: about 70 bytes of memory a dialogue."""

    def __init__(self, kb: KnowledgeBase, log: ReadLog) -> None:
        """Start without a dialogue.

        Args:
            kb: The knowledge base that turns refer to.
            log: Receives the malformed turns.
        """
        self._kb, self._log = kb, log
        self._ended: set[int] = set()
        self._last: str | None = None
        self._numbers: set[int] = set()

    def sound(self, turns: Iterable[Turn], split: Split) -> Iterator[Turn]:
        """Yield the well-formed turns of a split; the others go to the log."""
        self._numbers = set()
        if self._last is not None:
            self._ended.add(hash(self._last))
            self._last = None
        for turn in turns:
            try:
                self._check(turn)
            except BadRecord as bad:
                self._log.add(bad.at(f"{split} turn `{turn.id}`"))
            else:
                yield turn

    def _check(self, turn: Turn) -> None:
        if turn.dialogue != self._last:
            if self._last is not None:
                self._ended.add(hash(self._last))
            self._last, self._numbers = turn.dialogue, set()
        if hash(turn.dialogue) in self._ended:
            raise BadRecord("must have a dialogue id of its own in all splits, its turns together", repr(turn.dialogue))
        if turn.turn in self._numbers or turn.id != f"{turn.dialogue}#{turn.turn}":
            raise BadRecord("must have a number of its own in its dialogue, and both as its id", repr(turn.turn))
        self._numbers.add(turn.turn)
        if len(turn.context) % 2 == 0:
            rule = "must have the user's and the system's utterances by turns in its context, a user's first and last"
            raise BadRecord(rule, f"{len(turn.context)} utterances")
        if unknown := [i for i in (*turn.gold_entities, *turn.kb) if i not in self._kb.row_of]:
            raise BadRecord("must name entities of the knowledge base", ", ".join(map(repr, unknown[:5])))
        if len(set(turn.kb)) != len(turn.kb):
            raise BadRecord("must name each entity of its own knowledge base once", f"{len(turn.kb)} ids")


@dataclass(slots=True)
class SplitStats:
    """Statistics of one split, in memory independent of the number of turns."""

    dialogues: int = 0
    domains: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    _last: str | None = None

    def watch(self, turns: Iterable[Turn]) -> Iterator[Turn]:
        """Yield the turns, dialogue by dialogue, and count them."""
        for turn in turns:
            self._add(turn)
            yield turn

    def to_json(self) -> dict[str, Any]:
        """Return turns, dialogues, turns per domain, shares of the turns (0 to 1) and means per turn."""
        counts, turns = self.counts, self.domains.total()
        per_turn = {name: round(counts[name] / max(1, turns), 4) for name in sorted(_SHARES | _MEANS)}
        return {
            "turns": turns,
            "dialogues": self.dialogues,
            "api_calls": counts["api_calls"],
            "empty_responses": counts["empty_responses"],
            "domains": dict(sorted(self.domains.items())),
            "share_of_turns": {name: per_turn[name] for name in sorted(_SHARES)},
            "mean_per_turn": {name: per_turn[name] for name in sorted(_MEANS)},
        }

    def _add(self, turn: Turn) -> None:
        self.dialogues += turn.dialogue != self._last
        self._last = turn.dialogue
        self.domains[turn.domain] += 1
        self.counts.update(
            api_calls=turn.kind == "api_call",
            empty_responses=not turn.response.strip(),
            gold_values=bool(turn.gold_values),
            gold_entities=bool(turn.gold_entities),
            first_mention=turn.first_mention,
            dynamic=bool(turn.dynamic),
            kb=bool(turn.kb),
            context_utterances=len(turn.context),
            context_words=sum(len(text.split()) for text in turn.context),
            response_words=len(turn.response.split()),
            kb_entities=len(turn.kb),
        )


_SHARES = {"gold_values", "gold_entities", "first_mention", "dynamic", "kb"}
_MEANS = {"context_utterances", "context_words", "response_words", "kb_entities"}


def kb_stats(entities: Sequence[Entity]) -> dict[str, Any]:
    """Return the size of a knowledge base, entities per domain, and how many entities have each attribute."""
    domains = Counter(entity.domain for entity in entities)
    attributes = Counter(name for entity in entities for name in entity.attributes)
    return {"entities": len(entities), "domains": dict(sorted(domains.items())), "attributes": dict(attributes)}
