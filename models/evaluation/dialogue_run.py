"""Runs a system over held-out turns and scores it: retrieval by an agent or a floor, responses by a generator."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from models.data.dialogue import Turn
from models.data.dialogue_files import KB, VALUES, read_turns
from models.data.knowledge_base import KnowledgeBase
from models.data.text import RULES
from models.evaluation.dialogue_scores import DialogueRow, Retrieved
from models.evaluation.entity_f1 import EntityList, read_entity_list
from models.evaluation.entity_rules import rule_for
from models.evaluation.retrieval_scores import score_retrieval
from models.evaluation.turn_scoring import TurnScorer, retrieval_statistics
from models.generation.agent import DialogueAgent
from models.generation.dialogue_item import Answer, DialogueItem, RetrievedEntity
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.retrieval.hits import Hits


class HeldOut:
    """The turns of a split with the knowledge base they are answered from.

    Attributes:
        kb: The knowledge base.
        turns: The turns, in file order.
        condensed: Whether each turn retrieves from its own rows only.
        within: Those rows by turn; None = all rows for all.
    """

    def __init__(self, data: Path, cfg: DialogueEvaluationParams, *, kind: str, condensed: bool, root: Path) -> None:
        """Read a split.

        Args:
            data: Dialogue artifact.
            cfg: Split, limit, entity list.
            kind: `dialogues.kind`: decides the rule of Entity F1.
            condensed: Whether the setting is `condensed`.
            root: What `cfg.entity_list` is relative to.
        """
        self.kb = KnowledgeBase.load(data / KB)
        turns = (t for t in read_turns(data / f"{cfg.split}.jsonl") if cfg.count_api or t.kind == "response")
        self.turns = list(islice(turns, cfg.limit))
        self.condensed = condensed
        self.within = [self.kb.rows(t.kb) for t in self.turns] if condensed else None
        self.entity_list = entity_list_of(data, cfg, kind=kind, root=root)
        self._cfg = cfg

    @property
    def contexts(self) -> list[tuple[str, ...]]:
        """What was said before each turn."""
        return [turn.context for turn in self.turns]

    def retrieved(self, hits: Hits) -> list[list[Retrieved]]:
        """Return a floor's hits as they are recorded."""
        return [[Retrieved(self.kb[row].id, score) for row, score in hits.of(i)] for i in range(len(self.turns))]

    def score(
        self, found: Sequence[Sequence[Retrieved]], answers: Iterable[Answer] | None = None, *, num_read: int | None = None
    ) -> Iterator[DialogueRow]:
        """Yield a row for each turn.

        Args:
            found: Retrieved entities of each turn, best first.
            answers: The responses; None for a system that only retrieves.
            num_read: How many of the best entities the generator read; None = all.
        """
        rule = RULES[self._cfg.text_rule]
        scorer = TurnScorer(self.entity_list, self.kb, rule=rule)
        ranked = score_retrieval(
            self.turns,
            [self.kb.rows(one.id for one in these) for these in found],
            self.kb,
            recall_at=self._cfg.recall_at,
            value_attributes=self._cfg.value_attributes,
            count_api=self._cfg.count_api,
            within=self.condensed,
            rule=rule,
        )
        spoken = iter(answers) if answers is not None else None
        for turn, these, row in zip(self.turns, found, ranked, strict=True):
            response = next(spoken).text if spoken is not None else None
            statistics = retrieval_statistics(row, recall_at=self._cfg.recall_at)
            yield scorer.score(turn, retrieved=these, retrieval=statistics, response=response, num_read=num_read)

    def score_texts(self, found: Sequence[Sequence[Retrieved]], texts: Sequence[str]) -> Iterator[DialogueRow]:
        """Yield a row for each turn, its response scored and not its retrieval: for responses that no generator made."""
        scorer = TurnScorer(self.entity_list, self.kb, rule=RULES[self._cfg.text_rule])
        for turn, these, text in zip(self.turns, found, texts, strict=True):
            yield scorer.score(turn, retrieved=these, retrieval={}, response=text)


def entity_list_of(data: Path, cfg: DialogueEvaluationParams, *, kind: str, root: Path) -> EntityList:
    """Return the values Entity F1 looks for: a list of one's own, or that of the data set."""
    place = root / cfg.entity_list if cfg.entity_list else data / VALUES
    return read_entity_list(place, rule=rule_for(kind))


def describe(entities: Sequence[RetrievedEntity], agent: DialogueAgent) -> list[Retrieved]:
    """Return retrieved entities as they are recorded, with the meta knowledge that is written before each."""
    return [Retrieved(e.entity.id, e.meta.score, agent.meta.text(e.meta)) for e in entities]


def items_of(turns: Sequence[Turn], found: Sequence[Sequence[RetrievedEntity]], *, num_retrieved: int) -> list[DialogueItem]:
    """Return the turns as a generator may see them: the best `num_retrieved` entities, no reference."""
    return [DialogueItem.of(turn, these[:num_retrieved]) for turn, these in zip(turns, found, strict=True)]
