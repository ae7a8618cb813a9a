"""Demonstrations for in-context learning: training turns whose context resembles the one to be answered."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.data.dialogue import Turn
from models.generation.dialogue_item import DialogueItem, RetrievedEntity
from models.generation.similar_contexts import SimilarContexts

Retrieve = Callable[[Sequence[Turn]], Sequence[Sequence[RetrievedEntity]]]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A training turn with what was retrieved for it: the model sees how an answer takes its values from the entities."""

    turn: Turn
    entities: tuple[RetrievedEntity, ...] = ()


class DemonstrationPool:
    """The training turns to choose from.

    A demonstration shows its own best retrieved entities, by default the top 3 of them: without any, it would teach a model to
    invent values; with all, two demonstrations would take most of a prompt. Retrieval happens for chosen turns only, once each.
    """

    def __init__(self, turns: Iterable[Turn], *, retrieve: Retrieve | None = None, num_entities: int = 3) -> None:
        """Read the turns; API calls are no demonstrations of a response.

        Args:
            turns: Training turns.
            retrieve: Retrieves for turns (`DialogueAgent.retrieve_turns`); None = demonstrations without entities.
            num_entities: Best ranked entities shown with each.
        """
        self._turns = [t for t in turns if t.kind == "response" and t.response.strip()]
        self._similar = SimilarContexts(t.context for t in self._turns)
        self._domains = np.array([t.domain for t in self._turns], dtype=object)
        self._retrieve, self._num_entities = retrieve, num_entities
        self._entities: dict[int, tuple[RetrievedEntity, ...]] = {}

    def pick(self, items: Sequence[DialogueItem], count: int) -> list[tuple[Demonstration, ...]]:
        """Return up to `count` demonstrations for each item, most similar context first, from different dialogues.

        They are of the item's domain (of any, where the training data has no such domain) and never of its own dialogue; ties
        keep the order of the training data.
        """
        if count == 0 or not self._turns:
            return [() for _ in items]
        chosen = [self._choose(item, count) for item in items]
        self._fill({place for places in chosen for place in places})
        return [tuple(Demonstration(self._turns[p], self._entities.get(p, ())) for p in places) for places in chosen]

    def _choose(self, item: DialogueItem, count: int) -> list[int]:
        allowed = np.flatnonzero(self._domains == item.domain)
        allowed = allowed if len(allowed) else np.arange(len(self._turns))
        scores = self._similar.scores(item.context)[allowed]
        taken = {item.dialogue} if item.dialogue else set()
        places: list[int] = []
        for place in allowed[np.argsort(-scores, kind="stable")].tolist():
            if self._turns[place].dialogue not in taken:
                taken.add(self._turns[place].dialogue)
                places.append(place)
            if len(places) == count:
                break
        return places

    def _fill(self, places: set[int]) -> None:
        """Retrieve for the turns that were not chosen before."""
        new = sorted(places - self._entities.keys())
        if self._retrieve is None or not new:
            return
        found = self._retrieve([self._turns[p] for p in new])
        self._entities.update((p, tuple(e[: self._num_entities])) for p, e in zip(new, found, strict=True))
