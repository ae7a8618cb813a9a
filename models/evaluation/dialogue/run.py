"""Runs a system over held-out turns and scores each turn once: retrieval by an agent or baseline, responses by a generator."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

from models.corpus.text import ALL_SCRIPTS, RULES, TextRule
from models.dialogue.agent.agent import DialogueAgent
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import KB, VALUES, Turn, read_turns
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.dialogue.generators.base import Answer, DialogueItem, RetrievedEntity
from models.dialogue.retrieval.entity_text import entity_text
from models.dialogue.retrieval.ranking import Hits
from models.evaluation.dialogue.entity_f1 import EntityList, count_values, read_entity_list, rule_for
from models.evaluation.dialogue.hallucination import GroundingCheck, GroundingText, WordValues
from models.evaluation.dialogue.metrics import (
    ANNOTATED_F1,
    BLEU_VERSIONS,
    ENTITY_F1,
    FIT,
    HALLUCINATION,
    MRR,
    RECALL_ID,
    RECALL_VALUE,
)
from models.evaluation.dialogue.request_scores import RequestScorer
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, score_retrieval
from models.evaluation.dialogue.scores import DialogueRow, Retrieved, Statistics
from models.evaluation.dialogue.ties import Ranking
from models.params.dialogue_evaluation import DialogueEvaluationParams


class TurnScorer:
    """Scores turns against one entity list and knowledge base; what is known of a turn is computed for its first system."""

    def __init__(self, entities: EntityList, kb: KnowledgeBase, *, rule: TextRule = ALL_SCRIPTS) -> None:
        """Prepare for a data set; `rule` says how annotated values are compared."""
        self._entities, self._kb, self._rule = entities, kb, rule
        self._words = WordValues(entities.plain_values, rule=rule)
        self._support = GroundingCheck(self._words)
        self._wanted: dict[str, tuple[str, ...]] = {}

    @property
    def notes(self) -> dict[str, str]:
        """Notes needed to compare figures, by statistic: BLEU signatures, entity list, text rule."""
        listed = f"list of {len(self._entities):,} values, sha256 {self._entities.sha256[:12]}; texts: {self._rule.name}"
        return {version.name: version.signature for version in BLEU_VERSIONS} | {
            ENTITY_F1: self._entities.note,
            ANNOTATED_F1: f"annotated values by whole words; {listed}",
            HALLUCINATION: f"by whole words; {listed}",
            RECALL_VALUE: f"texts: {self._rule.name}",
            FIT: "turns with a request that some entity satisfies; the request is read from what the user says",
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
            retrieved: Retrieved entities, best first.
            retrieval: Statistics of the ranking (`retrieval_statistics`).
            response: The system's response; None for one that only retrieves.
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

    def _spoken(self, turn: Turn, response: str, given: Sequence[Retrieved]) -> tuple[GroundingText, Statistics]:
        """Check the values of a response, and return the statistics of its metrics."""
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
            root: Base of `cfg.entity_list`.
        """
        self.kb = KnowledgeBase.load(data / KB)
        turns = (t for t in read_turns(data / f"{cfg.split}.jsonl") if cfg.count_api or t.kind == "response")
        self.turns = list(islice(turns, cfg.limit))
        self.condensed = condensed
        self.within = [self.kb.rows(t.kb) for t in self.turns] if condensed else None
        self.entity_list = entity_list_of(data, cfg, kind=kind, root=root)
        self._cfg = cfg
        self._requests = RequestScorer(
            self.kb,
            RequestLexicon.read(data),
            recall_at=cfg.recall_at,
            value_attributes=cfg.value_attributes,
            rule=RULES[cfg.text_rule],
        )

    @property
    def contexts(self) -> list[tuple[str, ...]]:
        return [turn.context for turn in self.turns]

    def retrieved(self, hits: Hits, parts: Sequence[Sequence[Mapping[str, float]]] | None = None) -> list[list[Retrieved]]:
        """Return hits without meta knowledge as they are recorded; `parts` are those of their scores, if any."""
        found = [[Retrieved(self.kb[row].id, score) for row, score in hits.of(i)] for i in range(len(self.turns))]
        if parts is None:
            return found
        return [[replace(one, parts=part) for one, part in zip(*both, strict=True)] for both in zip(found, parts, strict=True)]

    def score(
        self,
        found: Sequence[Sequence[Retrieved]],
        answers: Iterable[Answer] | None = None,
        *,
        num_read: int | None = None,
        tied: Iterable[Sequence[int]] | None = None,
    ) -> Iterator[DialogueRow]:
        """Yield a row for each turn.

        Args:
            found: Retrieved entities of each turn, best first.
            answers: The responses; None for a system that only retrieves.
            num_read: How many of the best entities the generator read; None = all.
            tied: KB rows of each turn that have the score of the last one retrieved (`tied_with_last`); None = there are none.
        """
        rule = RULES[self._cfg.text_rule]
        scorer = TurnScorer(self.entity_list, self.kb, rule=rule)
        hits = [self.kb.rows(one.id for one in these) for these in found]
        ranked = score_retrieval(
            self.turns,
            hits,
            self.kb,
            recall_at=self._cfg.recall_at,
            value_attributes=self._cfg.value_attributes,
            count_api=self._cfg.count_api,
            within=self.condensed,
            rule=rule,
        )
        spoken = iter(answers) if answers is not None else None
        behind = repeat(()) if tied is None else tied
        # The ties come last and lazily: those of the turn at hand alone are held.
        for place, (turn, these, row, ties) in enumerate(zip(self.turns, found, ranked, behind, strict=False)):
            response = next(spoken).text if spoken is not None else None
            ranking = Ranking(hits[place], [one.score for one in these], ties)
            session = None if self.within is None else self.within[place]
            known = self._requests.statistics(turn, ranking, session=session)
            statistics = {**retrieval_statistics(row, recall_at=self._cfg.recall_at), **known}
            yield scorer.score(turn, retrieved=these, retrieval=statistics, response=response, num_read=num_read)

    def score_texts(self, found: Sequence[Sequence[Retrieved]], texts: Sequence[str]) -> Iterator[DialogueRow]:
        """Yield a row for each turn, its response scored and not its retrieval: for responses that no generator made."""
        scorer = TurnScorer(self.entity_list, self.kb, rule=RULES[self._cfg.text_rule])
        for turn, these, text in zip(self.turns, found, texts, strict=True):
            yield scorer.score(turn, retrieved=these, retrieval={}, response=text)


def entity_list_of(data: Path, cfg: DialogueEvaluationParams, *, kind: str, root: Path) -> EntityList:
    """Return the values Entity F1 looks for: the list in the params, or that of the data set."""
    place = root / cfg.entity_list if cfg.entity_list else data / VALUES
    return read_entity_list(place, rule=rule_for(kind))


def describe(entities: Sequence[RetrievedEntity], agent: DialogueAgent) -> list[Retrieved]:
    """Return retrieved entities as they are recorded, with the meta knowledge that is written before each."""
    return [Retrieved(e.entity.id, e.meta.score, agent.meta.text(e.meta), e.parts) for e in entities]


def items_of(turns: Sequence[Turn], found: Sequence[Sequence[RetrievedEntity]], *, num_retrieved: int) -> list[DialogueItem]:
    """Return the turns as a generator may see them: the best `num_retrieved` entities, no reference."""
    return [DialogueItem.of(turn, these[:num_retrieved]) for turn, these in zip(turns, found, strict=True)]


def constant_responses(training: Iterable[Turn], num: int) -> list[str]:
    """Return the most frequent response of training (the first of equally frequent ones), `num` times; else empty."""
    counts = Counter(turn.response for turn in training if turn.kind == "response")
    return [counts.most_common(1)[0][0] if counts else ""] * num


def copied_responses(hits: Hits, num: int, kb: KnowledgeBase, *, attributes: Sequence[str] | None) -> list[str]:
    """Return the best entity of each of `num` queries as text, `name … ; area … ; …`; empty where nothing was retrieved."""
    best = (next(iter(hits.of(query)), None) for query in range(num))
    return ["" if hit is None else entity_text(kb[hit[0]], attributes=attributes) for hit in best]
