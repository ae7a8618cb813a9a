"""The data of the dialogue half's page (plain records, filled by the caller from artifacts) and its rows of result files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.evaluation.dialogue.scores import DialogueComparison, DialogueRow, DialogueScores, DialogueTableRow, Retrieved
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.dialogue.formatting import is_percent, shown
from models.reporting.formatting import MINUS
from models.reporting.results import ResultRow


@dataclass(frozen=True, slots=True)
class ShownEntity:
    """A retrieved entity as a reader sees it.

    Attributes:
        name: Its name.
        attributes: The others: `area north; food chinese`.
        score: Retrieval score.
        meta: Meta knowledge given to the generator; may be empty.
        gold: Whether the reference names it.
    """

    name: str
    attributes: str
    score: float
    meta: str
    gold: bool


@dataclass(frozen=True, slots=True)
class DialogueAnswer:
    """One system's response with what it was retrieved for it; `hallucinated` are values nothing given to it says."""

    system: DialogueSystem
    response: str | None
    hallucinated: tuple[str, ...]
    entities: tuple[ShownEntity, ...]


@dataclass(frozen=True, slots=True)
class DialogueExample:
    """One held-out turn with its reference, and every system's answer."""

    id: str
    domain: str
    context: tuple[str, ...]
    reference: str
    gold_values: tuple[str, ...]
    answers: tuple[DialogueAnswer, ...]


@dataclass(frozen=True, slots=True)
class DialogueReportData:
    """Everything the dialogue page shows; an empty part is left out.

    Attributes:
        title: Heading.
        table: Results (`dialogue_comparison.aggregate`).
        comparisons: Paired differences (`dialogue_comparison.paired`).
        data_set: `dialogues.kind`, for the paper's rows.
        setting: `large_scale` or `condensed`.
        histories: Variant → logged training rows.
        warm: Logged metric of the retriever → its value after the warm start.
        examples: Answers side by side.
        provenance: Name → value: params digest, commit, versions, dates.
        reproduce: Commands that produce this report, in order.
        notes: Further sentences a reader must know.
        confidence: Level of the intervals.
    """

    title: str
    table: Sequence[DialogueTableRow]
    comparisons: Sequence[DialogueComparison] = ()
    data_set: str = ""
    setting: str = "large_scale"
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    warm: Mapping[str, float] = field(default_factory=dict)
    examples: Sequence[DialogueExample] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    reproduce: Sequence[str] = ()
    notes: Sequence[str] = ()
    confidence: float = 0.95


def select_dialogue_examples(
    turns: Iterable[Turn], scores: DialogueScores, kb: KnowledgeBase, *, per_domain: int, num_entities: int = 3
) -> tuple[DialogueExample, ...]:
    """Return the first turns of each domain that bring up an entity, not chosen by how well anybody did.

    Args:
        turns: Held-out turns, in order.
        scores: System → its rows.
        kb: The knowledge base, for names and attributes.
        per_domain: Turns per domain.
        num_entities: Retrieved entities shown of each system, the best ones.
    """
    rows = {system: {row.id: row for row in mine} for system, mine in scores.items()}
    taken: dict[str, list[DialogueExample]] = {}
    for turn in turns:
        chosen = taken.setdefault(turn.domain, [])
        if not turn.first_mention or turn.kind != "response" or len(chosen) >= per_domain:
            continue
        answers = tuple(
            _answer(system, rows[system][turn.id], turn, kb, num_entities) for system in scores if turn.id in rows[system]
        )
        if answers:
            chosen.append(DialogueExample(turn.id, turn.domain, turn.context, turn.response, turn.gold_values, answers))
    return tuple(example for chosen in taken.values() for example in chosen)


def _answer(system: DialogueSystem, row: DialogueRow, turn: Turn, kb: KnowledgeBase, num_entities: int) -> DialogueAnswer:
    shown = [_shown(one, kb[kb.row_of[one.id]], gold=one.id in turn.gold_entities) for one in row.retrieved[:num_entities]]
    return DialogueAnswer(system, row.response, row.hallucinated, tuple(shown))


def _shown(one: Retrieved, entity: Entity, *, gold: bool) -> ShownEntity:
    _, *others = entity.attributes.items()
    attributes = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in others)
    return ShownEntity(entity.name, attributes, one.score, one.meta, gold)


def dialogue_result_rows(rows: Iterable[DialogueTableRow]) -> tuple[ResultRow, ...]:
    """Turn the results table into result rows, shares in percent."""
    return tuple(
        ResultRow(
            name=row.system.label,
            value=shown(row.metric, row.value),
            unit="%" if is_percent(row.metric) else "",
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={"kind": row.system.kind, "domain": row.domain, "metric": row.metric, "note": row.note},
        )
        for row in rows
    )


def dialogue_comparison_result_rows(rows: Iterable[DialogueComparison]) -> tuple[ResultRow, ...]:
    """Turn paired differences into result rows, shares in percentage points."""
    return tuple(
        ResultRow(
            name=f"{row.a.label} {MINUS} {row.b.label}",
            value=shown(row.metric, row.value),
            unit="points" if is_percent(row.metric) else "",
            low=shown(row.metric, row.low),
            high=shown(row.metric, row.high),
            num=row.num,
            more={"claim": row.claim, "domain": row.domain, "metric": row.metric, "p": row.p, "verdict": row.verdict},
        )
        for row in rows
    )
