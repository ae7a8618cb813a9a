"""Hallucinated values: what a response says about entities that nothing it was given says.

A value of the entity list in the response (whole words) is supported if it stands in an attribute of a retrieved entity, in the
context, or in the dynamic values; else it is hallucinated, whether or not the turn has gold values (Entity F1 looks away there).
A made-up value that is in no list (a booking reference, a phone number of nobody) is not seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from models.data.dialogue import Entity, Turn
from models.evaluation.word_values import WordValues


@dataclass(frozen=True, slots=True)
class Support:
    """The values of one response.

    Attributes:
        values: All of them, squeezed, in alphabetical order.
        hallucinated: Those without support.
    """

    values: tuple[str, ...]
    hallucinated: tuple[str, ...]


class SupportCheck:
    """Checks responses; what stands in an entity or a turn is looked up once."""

    def __init__(self, values: WordValues) -> None:
        """Take the values of the data set, those of `choice` left out (real-time counts of no entity)."""
        self._values = values
        self._of_entity: dict[str, frozenset[str]] = {}
        self._of_turn: dict[str, frozenset[str]] = {}

    def check(self, turn: Turn, response: str, *, retrieved: Iterable[Entity]) -> Support:
        """Split the values of a response by whether anything the system was given says them."""
        found = self._values.maximal(response)
        given = self._turn(turn).union(*(self._entity(entity) for entity in retrieved))
        return Support(tuple(sorted(found)), tuple(sorted(found - given)))

    def _entity(self, entity: Entity) -> frozenset[str]:
        if entity.id not in self._of_entity:
            self._of_entity[entity.id] = self._in(entity.attributes.values())
        return self._of_entity[entity.id]

    def _turn(self, turn: Turn) -> frozenset[str]:
        if turn.id not in self._of_turn:
            dynamic = (value for values in turn.dynamic.values() for value in values)
            self._of_turn[turn.id] = self._in((*turn.context, *dynamic))
        return self._of_turn[turn.id]

    def _in(self, texts: Iterable[str]) -> frozenset[str]:
        # One by one: words at the border of two texts are no value.
        return frozenset().union(*(self._values.occurring(text) for text in texts))
