"""Scores one turn of one system: everything the metrics need, computed once."""

from collections.abc import Sequence

from models.data.dialogue import Turn
from models.data.knowledge_base import KnowledgeBase
from models.data.text import ALL_SCRIPTS, TextRule
from models.evaluation.bleu import BLEU_VERSIONS
from models.evaluation.dialogue_metrics import ANNOTATED_F1, ENTITY_F1, HALLUCINATION, MRR, RECALL_ID, RECALL_VALUE
from models.evaluation.dialogue_scores import DialogueRow, Retrieved, Statistics
from models.evaluation.entity_f1 import EntityList, count_values
from models.evaluation.hallucination import Support, SupportCheck
from models.evaluation.retrieval_scores import RetrievalRow
from models.evaluation.word_values import WordValues


class TurnScorer:
    """Scores turns against one entity list and knowledge base; what is known of a turn is computed for its first system."""

    def __init__(self, entities: EntityList, kb: KnowledgeBase, *, rule: TextRule = ALL_SCRIPTS) -> None:
        """Prepare for a data set; `rule` says how annotated values are compared."""
        self._entities, self._kb, self._rule = entities, kb, rule
        self._words = WordValues(entities.plain_values, rule=rule)
        self._support = SupportCheck(self._words)
        self._wanted: dict[str, tuple[str, ...]] = {}

    @property
    def notes(self) -> dict[str, str]:
        """What one must know to compare a figure, by statistic: BLEU's signatures, the entity list, the rule for texts."""
        listed = f"list of {len(self._entities):,} values, sha256 {self._entities.sha256[:12]}; texts: {self._rule.name}"
        return {version.name: version.signature for version in BLEU_VERSIONS} | {
            ENTITY_F1: self._entities.note,
            ANNOTATED_F1: f"annotated values by whole words; {listed}",
            HALLUCINATION: f"by whole words; {listed}",
            RECALL_VALUE: f"texts: {self._rule.name}",
        }

    def score(
        self,
        turn: Turn,
        *,
        retrieved: Sequence[Retrieved],
        retrieval: Statistics,
        response: str | None = None,
        num_read: int | None = None,
    ) -> DialogueRow:
        """Return the row of one turn.

        Args:
            turn: The turn.
            retrieved: What was retrieved, best first.
            retrieval: Statistics of the ranking (`retrieval_statistics`).
            response: What the system said; None for one that only retrieves.
            num_read: How many of the best entities the generator was given; None = all that were retrieved.
        """
        support, spoken = self._spoken(turn, response, retrieved[:num_read]) if response is not None else (None, {})
        return DialogueRow(
            id=turn.id,
            dialogue=turn.dialogue,
            domain=turn.domain,
            kind=turn.kind,
            has_gold=bool(turn.gold_values),
            first_mention=turn.first_mention,
            retrieved=tuple(retrieved),
            reference=turn.response,
            response=response,
            statistics={**retrieval, **spoken},
            hallucinated=support.hallucinated if support else (),
        )

    def _spoken(self, turn: Turn, response: str, given: Sequence[Retrieved]) -> tuple[Support, Statistics]:
        """Check the values of a response, and return what its metrics are made of."""
        rows = self._kb.rows(one.id for one in given)
        support = self._support.check(turn, response, retrieved=[self._kb[row] for row in rows])
        if turn.id not in self._wanted:
            self._wanted[turn.id] = self._entities.extract(turn.response)
        gold = self._words.squeezed(turn.gold_values)
        counts = {
            ENTITY_F1: count_values(self._entities.extract(response), self._wanted[turn.id]),
            ANNOTATED_F1: count_values(self._words.maximal(response, extra=turn.gold_values), gold),
        }
        return support, {
            **{version.name: version.statistics(response, turn.response) for version in BLEU_VERSIONS},
            **{name: count for name, count in counts.items() if count is not None},
            HALLUCINATION: (float(len(support.hallucinated)), float(len(support.values))),
        }


def retrieval_statistics(row: RetrievalRow | None, *, recall_at: Sequence[int]) -> Statistics:
    """Return (numerator, denominator) of recall@k by value and by id, and of MRR (by id, 0 beyond the largest k).

    A statistic is absent where the turn does not count: without gold values, without gold entities, or without a row.
    """
    if row is None:
        return {}
    by_value = {f"{RECALL_VALUE}@{k}": _within(row.value_rank, k) for k in recall_at if row.num_values}
    by_id = {f"{RECALL_ID}@{k}": _within(row.id_rank, k) for k in recall_at if row.num_entities}
    rank = row.id_rank if row.id_rank is not None and row.id_rank <= max(recall_at) else None
    return {**by_value, **by_id, **({MRR: (1 / rank if rank else 0.0, 1.0)} if row.num_entities else {})}


def _within(rank: int | None, k: int) -> tuple[float, float]:
    return float(rank is not None and rank <= k), 1.0
