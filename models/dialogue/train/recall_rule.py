"""When a turn counts as retrieved: by the values of its response (the paper's rule), and by the entities it names."""

from collections.abc import Sequence

from models.corpus.text import without_blanks
from models.dialogue.data.dynamic_values import values_given
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Turn


class RecallRule:
    """The two rules over one knowledge base; each says at which rank a turn is first satisfied: one pass gives every k."""

    def __init__(self, kb: KnowledgeBase) -> None:
        """Gather the distinct values of the knowledge base; those of a row are made when they are asked for."""
        self._kb = kb
        self._known = frozenset(without_blanks(value) for entity in kb.entities for value in entity.attributes.values()) - {""}

    def value_rank(self, turn: Turn, rows: Sequence[int]) -> int | None:
        """Return the smallest k for which `rows[:k]` hold every gold value of the response, or None where no k does.

        Values are compared without blanks and punctuation. Free are those that no entity has (such as a booking's reference),
        those that a real-time query gave, and those without a letter or digit. 0 where nothing has to be found: such a turn is a
        hit at every k.
        """
        free = set(map(without_blanks, values_given(turn)))
        wanted = {without_blanks(value) for value in turn.gold_values} & self._known - free
        for rank, row in enumerate(rows, start=1):
            if not wanted:
                return rank - 1
            wanted -= {without_blanks(value) for value in self._kb[row].attributes.values()}
        return None if wanted else len(rows)

    def id_rank(self, turn: Turn, rows: Sequence[int]) -> int | None:
        """Return the smallest k for which `rows[:k]` hold every entity that the response names, or None where no k does."""
        wanted = set(self._kb.rows(turn.gold_entities))
        for rank, row in enumerate(rows, start=1):
            if not wanted:
                return rank - 1
            wanted.discard(row)
        return None if wanted else len(rows)
