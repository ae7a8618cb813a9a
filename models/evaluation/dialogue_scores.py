"""The records of the dialogue evaluation: systems, rows of each turn, table rows and comparisons; and their files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.data.corpus import write_json_lines
from models.data.dialogue import TurnKind
from models.data.json_lines import read_json_lines
from models.evaluation.dialogue_metrics import higher_is_better

DialogueKind = Literal["variant", "retriever", "warm_start", "floor", "response_floor", "in_context", "unseen"]
Verdict = Literal["better", "worse", "unclear"]
Statistics = Mapping[str, tuple[float, ...]]
"""Name → sufficient statistics of one turn (`dialogue_metrics`); a name is absent where the turn does not count."""

ALL_DOMAINS = "all"


_LABELS = {
    "warm_start": "warm start",
    "bm25": "BM25",
    "frequency": "Frequency",
    "null": "constant answer",
    "copy_first": "first entity copied",
}


@dataclass(frozen=True, slots=True)
class DialogueSystem:
    """What is scored: a retriever, with or without a generator behind it.

    Attributes:
        name: Variant; `warm_start`; name of the floor; or name of the in-context generator.
        kind: `variant` = retriever and generator trained together; `warm_start` and `floor` only retrieve; `response_floor` =
            a response made without any generator; `in_context` = a generator not trained here over a variant's retriever.
        meta_knowledge: How meta knowledge is told to the generator; empty where there is none to tell.
        retriever: `in_context`: the variant whose retriever feeds it.
    """

    name: str
    kind: DialogueKind
    meta_knowledge: str = ""
    retriever: str = ""

    @property
    def label(self) -> str:
        """Short text for tables and axes: `prompt`, `warm start`, `BM25`, `fused + prompt`."""
        if self.kind == "in_context":
            return f"{self.name} + {self.meta_knowledge}" if self.meta_knowledge not in ("", "none") else f"{self.name}, none"
        return _LABELS.get(self.name, self.name)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueSystem":
        """Build from `asdict` output."""
        return cls(**row)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A retrieved entity: its id, score, and what the generator was told about it (empty for nothing)."""

    id: str
    score: float
    meta: str = ""


@dataclass(frozen=True, slots=True)
class DialogueRow:
    """One system on one turn.

    Attributes:
        id: Turn id.
        dialogue: Dialogue id: what the bootstrap resamples.
        domain: Domain.
        kind: `response` or `api_call`.
        has_gold: Whether the turn has gold values.
        first_mention: Whether its reference names an entity that the context has not.
        retrieved: Retrieved entities, best first.
        reference: The reference response.
        response: The system's; None for one that only retrieves.
        statistics: What the metrics are made of.
        hallucinated: Values of the response that nothing given to the system says.
    """

    id: str
    dialogue: str
    domain: str
    kind: TurnKind
    has_gold: bool
    first_mention: bool
    retrieved: tuple[Retrieved, ...]
    reference: str
    response: str | None = None
    statistics: Statistics = field(default_factory=dict)
    hallucinated: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueRow":
        """Build from `asdict` output."""
        read = {
            "retrieved": tuple(Retrieved(**one) for one in row["retrieved"]),
            "statistics": {name: tuple(values) for name, values in row["statistics"].items()},
            "hallucinated": tuple(row["hallucinated"]),
        }
        return cls(**{**row, **read})


DialogueScores = Mapping[DialogueSystem, Sequence[DialogueRow]]
"""System → rows of its turns, in the same order for all."""


@dataclass(frozen=True, slots=True)
class DialogueTableRow:
    """One figure of the results table.

    Attributes:
        system: What was scored.
        domain: A domain, or `all`.
        metric: Name of the metric.
        value: BLEU between 0 and 100, all else between 0 and 1.
        low: Lower end of its interval over resampled dialogues.
        high: Upper end.
        num: Turns it rests on (hallucination: values).
        note: What one must know to compare it: signature, entity list.
    """

    system: DialogueSystem
    domain: str
    metric: str
    value: float
    low: float
    high: float
    num: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a flat JSON-ready dict; `num` as `n`, the system's fields beside it."""
        row = asdict(self)
        system = row.pop("system")
        return {"system": system.pop("name"), **system, **row, "n": row.pop("num")}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueTableRow":
        """Build from `to_json` output."""
        system = DialogueSystem(row["system"], row["kind"], row["meta_knowledge"], row["retriever"])
        figures = (row["domain"], row["metric"], row["value"], row["low"], row["high"], row["n"])
        return cls(system, *figures, note=row["note"])


@dataclass(frozen=True, slots=True)
class DialogueComparison:
    """System `a` minus system `b` on the same turns: difference, interval, two-sided p (uncorrected).

    Attributes:
        claim: What the pair is to show, such as `meta knowledge`.
        num: Turns the difference rests on: those both systems answered.
        num_dialogues: Dialogues of these turns: what is resampled.
    """

    a: DialogueSystem
    b: DialogueSystem
    domain: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    num: int
    num_dialogues: int
    claim: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether `a` is better than `b`; `unclear` if the interval contains zero."""
        if self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.low > 0) == higher_is_better(self.metric) else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the verdict; `num` as `n`."""
        row = asdict(self)
        return {**row, "n": row.pop("num"), "verdict": self.verdict}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueComparison":
        """Build from `to_json` output."""
        a, b = (DialogueSystem.from_json(row[side]) for side in ("a", "b"))
        figures = (row["domain"], row["metric"], row["value"], row["low"], row["high"], row["p"], row["n"])
        return cls(a, b, *figures, num_dialogues=row["num_dialogues"], claim=row["claim"])


def write_rows(path: Path, rows: Iterable[DialogueRow]) -> int:
    """Write rows as JSONL, one per turn in the given order; the file appears whole or not at all. Returns the count."""
    return write_json_lines(path, (asdict(row) for row in rows))


def read_rows(path: Path) -> Iterator[DialogueRow]:
    """Yield the rows of `write_rows`.

    Raises:
        ArtifactError: A line is no such row; names file and line.
    """
    return read_json_lines(path, DialogueRow.from_json, what="row of dialogue scores")
