"""Scores of a ranking against what a dialogue can know: expected recall, and the share of entities that fit the request."""

from collections.abc import Iterable, Sequence

from models.corpus.text import ALL_SCRIPTS, TextRule
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Turn
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.dialogue.data.requests.reader import RequestReader
from models.evaluation.dialogue.metrics import EXPECTED, FIT, FIT_CEILING, RECALL_ID, RECALL_VALUE
from models.evaluation.dialogue.retrieval_scores import ValueTable, looked_for
from models.evaluation.dialogue.scores import Statistics
from models.evaluation.dialogue.ties import EqualEntities, Members, Ranking, expected_recall


class RequestScorer:
    """Scores rankings of turns over one knowledge base."""

    def __init__(
        self,
        kb: KnowledgeBase,
        lexicon: RequestLexicon,
        *,
        recall_at: Sequence[int],
        value_attributes: Sequence[str] | None,
        rule: TextRule = ALL_SCRIPTS,
    ) -> None:
        """Prepare for a knowledge base.

        Args:
            kb: The knowledge base.
            lexicon: How users ask, and which attributes they can ask for.
            recall_at: The k.
            value_attributes: Attributes whose values can answer for a gold value; None = all.
            rule: How values are compared.
        """
        self._kb, self._recall_at = kb, tuple(recall_at)
        self._equal = EqualEntities(ValueIndex(kb), attributes=lexicon.attributes)
        self._reader = RequestReader(kb, lexicon)
        self._table = ValueTable(kb, attributes=value_attributes, rule=rule)

    def statistics(self, turn: Turn, ranking: Ranking, *, session: Sequence[int] | None = None) -> Statistics:
        """Return (numerator, denominator) of each metric; a metric is absent where the turn does not count.

        Args:
            turn: The turn.
            ranking: What was retrieved for it.
            session: KB rows it was searched in; None = all.
        """
        return self._expected(turn, ranking, session) | self._fit(turn, ranking, session)

    def _expected(self, turn: Turn, ranking: Ranking, session: Sequence[int] | None) -> dict[str, tuple[float, float]]:
        gold = self._kb.rows(turn.gold_entities)
        wanted = {}
        if self._table.compared(turn.gold_values):
            wanted[RECALL_VALUE] = _bits(self._table.holders(value) for value in sorted(looked_for(turn, self._table)))
        if gold:
            wanted[RECALL_ID] = _bits([row] for row in dict.fromkeys(gold))
        members: Members = self._equal.of(turn, (*ranking.rows, *ranking.tied), session=session) if wanted else {}
        return {
            f"{EXPECTED}{name}@{k}": (expected_recall(ranking, have, full=full, members=members, k=k), 1.0)
            for name, (have, full) in wanted.items()
            for k in self._recall_at
        }

    def _fit(self, turn: Turn, ranking: Ranking, session: Sequence[int] | None) -> dict[str, tuple[float, float]]:
        request = self._reader.read(turn.context, domain=turn.domain)
        fitting = set(self._reader.rows(request, within=session).tolist()) if request else set()
        found: dict[str, tuple[float, float]] = {}
        for k in self._recall_at if fitting else ():
            first = ranking.rows[:k]
            found[f"{FIT}@{k}"] = (float(sum(row in fitting for row in first)), float(len(first)))
            found[f"{FIT_CEILING}@{k}"] = (float(min(len(fitting), len(first))), float(len(first)))
        return found


def _bits(holders: Iterable[Iterable[int]]) -> tuple[dict[int, int], int]:
    """Return row → which of the wanted things it has, as bits, and the bits of all of them."""
    have: dict[int, int] = {}
    full = 0
    for number, rows in enumerate(holders):
        full |= 1 << number
        for row in rows:
            have[row] = have.get(row, 0) | 1 << number
    return have, full
