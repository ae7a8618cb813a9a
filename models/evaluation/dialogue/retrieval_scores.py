"""Where retrieval finds what a turn's response needs: by value (the published rule) and by entity id."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from models.corpus.text import ALL_SCRIPTS, TextRule
from models.dialogue.data.dynamic_values import values_given
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Turn
from models.errors import DataError, Problem


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One turn. A rank is the smallest k whose first k entities suffice; None: the retrieved ones do not.

    Attributes:
        id: Turn id.
        dialogue: Its dialogue: turns of one are resampled together.
        domain: Its domain.
        first_mention: Whether the response names an entity that the context has not named.
        num_values: Gold values of the response with a letter or digit; a turn without any does not count by value.
        num_looked_for: Those of them that are values of the knowledge base and not dynamic. A turn that has gold values but
            none to look for counts as found (published rule).
        value_rank: Rank at which every value looked for is a value of some entity.
        num_entities: Gold entities; a turn without any does not count by id.
        id_rank: Rank at which all gold entities are there.
    """

    id: str
    dialogue: str
    domain: str
    first_mention: bool
    num_values: int
    num_looked_for: int
    value_rank: int | None
    num_entities: int
    id_rank: int | None


class ValueTable:
    """The values of a knowledge base as the rule compares them: normalised, without blanks.

    Attributes:
        known: Every value of any entity; none is empty.
    """

    def __init__(self, kb: KnowledgeBase, *, attributes: Sequence[str] | None, rule: TextRule = ALL_SCRIPTS) -> None:
        """Gather the values of `attributes` (None = all)."""
        self._kb, self._rule = kb, rule
        self._attributes = None if attributes is None else frozenset(attributes)
        # As written → as compared, since most entities share most of their values and are retrieved again and again.
        written = {value for row in range(len(kb)) for value in self._named(row)}
        self._squeezed = {value: rule.without_blanks(value) for value in written}
        self.known = frozenset(self._squeezed.values()) - {""}
        self._holders: dict[str, array[int]] | None = None

    def of(self, row: int) -> frozenset[str]:
        return frozenset(self._squeezed[value] for value in self._named(row)) - {""}

    def holders(self, value: str) -> Sequence[int]:
        """Return the rows that have a value (as it is compared), ascending; the first call sorts all rows by their values."""
        if self._holders is None:
            self._holders = {}
            for row in range(len(self._kb)):
                for held in self.of(row):
                    self._holders.setdefault(held, array("q")).append(row)
        return self._holders.get(value, ())

    def _named(self, row: int) -> Iterator[str]:
        named = self._kb[row].attributes.items()
        return (value for name, value in named if self._attributes is None or name in self._attributes)

    def compared(self, values: Iterable[str]) -> frozenset[str]:
        """Return values as they are compared; those without a letter or digit are none."""
        return frozenset(map(self._rule.without_blanks, values)) - {""}


def score_retrieval(
    turns: Iterable[Turn],
    hits: Iterable[Sequence[int]],
    kb: KnowledgeBase,
    *,
    recall_at: Sequence[int],
    value_attributes: Sequence[str] | None,
    count_api: bool = False,
    within: bool = False,
    rule: TextRule = ALL_SCRIPTS,
) -> Iterator[RetrievalRow]:
    """Yield a row for each turn.

    Args:
        turns: The turns.
        hits: KB rows retrieved for each turn, best first; −1 (padding) is skipped, and what is behind the largest k too.
        kb: The knowledge base.
        recall_at: The k of recall@k; the largest must have been retrieved.
        value_attributes: Attributes whose values can answer for a gold value; None = all.
        count_api: Also score turns that are API calls.
        within: Whether each turn was searched in its own session (`Turn.kb`) only.
        rule: How values are compared.

    Raises:
        DataError: Fewer entities retrieved than the largest k needs, or a gold entity that is not in the knowledge base.
        ValueError: Numbers of turns and hits differ.
    """
    table, most = ValueTable(kb, attributes=value_attributes, rule=rule), max(recall_at)
    for turn, rows in zip(turns, hits, strict=True):
        found = [int(row) for row in rows if row >= 0][:most]
        _check_enough(turn, found, wanted=min(most, len(set(turn.kb)) if within else len(kb)))
        if count_api or turn.kind != "api_call":
            yield _row(turn, found, kb, table)


def _row(turn: Turn, found: Sequence[int], kb: KnowledgeBase, table: ValueTable) -> RetrievalRow:
    values, wanted = table.compared(turn.gold_values), looked_for(turn, table)
    gold = set(kb.rows(turn.gold_entities))
    return RetrievalRow(
        id=turn.id,
        dialogue=turn.dialogue,
        domain=turn.domain,
        first_mention=turn.first_mention,
        num_values=len(values),
        num_looked_for=len(wanted),
        value_rank=_rank(wanted, (table.of(row) for row in found)) if values else None,
        num_entities=len(gold),
        id_rank=_rank(gold, ({row} for row in found)) if gold else None,
    )


def looked_for(turn: Turn, table: ValueTable) -> frozenset[str]:
    """Return the gold values that retrieval can be asked for: booking references and counts come from elsewhere."""
    dynamic = table.compared(values_given(turn))
    return (table.compared(turn.gold_values) & table.known) - dynamic  # `known` is large: it is looked into, never copied


def _rank(wanted: AbstractSet[str] | AbstractSet[int], offered: Iterable[AbstractSet[object]]) -> int | None:
    """Return after how many of the offered sets everything wanted has been offered; 1 if nothing is wanted."""
    left: set[object] = set(wanted)
    for rank, these in enumerate(offered, start=1):
        left -= these
        if not left:
            return rank
    return None


def _check_enough(turn: Turn, found: Sequence[int], *, wanted: int) -> None:
    if len(found) < wanted:
        rule = f"must have the {wanted} best entities retrieved for recall@{wanted}"
        hint = "Retrieve more entities, or lower the largest k of `recall_at`."
        raise DataError("Retrieval cannot be scored", [Problem(f"turn `{turn.id}`", rule, str(len(found)), hint)])
