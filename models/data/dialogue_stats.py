"""Counts and lengths of prepared dialogues, gathered while they are written."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.data.dialogue import Entity, Turn


@dataclass(slots=True)
class SplitStats:
    """Tally of one split; what it keeps does not grow with the number of turns."""

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
