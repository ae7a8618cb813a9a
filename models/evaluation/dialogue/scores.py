"""Records of the dialogue evaluation and their files: systems, rows of turns and their columns, table rows, comparisons."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.corpus.examples import write_json_lines
from models.dialogue.data.records import TurnKind
from models.evaluation.dialogue.metrics import DialogueMetric, higher_is_better
from models.evaluation.dialogue.system import DialogueSystem
from models.files import read_json_lines
from models.records import to_row

Verdict = Literal["better", "worse", "unclear"]
Statistics = Mapping[str, tuple[float, ...]]
"""Name → sufficient statistics of one turn (`dialogue_metrics`); a name is absent where the turn does not count."""

ALL_DOMAINS = "all"


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A retrieved entity.

    Attributes:
        id: Its id.
        score: Retrieval score.
        meta: Meta knowledge given to the generator (may be empty).
        parts: What a hybrid score is made of (`dense`, `name`, `value`, `bm25`); empty where the score is the cosine.
    """

    id: str
    score: float
    meta: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


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
        statistics: Sufficient statistics of the metrics.
        hallucinated: Values of the response that nothing given to the system contains.
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


DialogueScores = Mapping[DialogueSystem, Sequence[DialogueRow]]
"""System → rows of its turns, in the same order for all."""


@dataclass(frozen=True, slots=True)
class DialogueTableRow:
    """One figure of the results table.

    Attributes:
        system: The scored system.
        domain: A domain, or `all`.
        metric: Name of the metric.
        value: BLEU between 0 and 100, all else between 0 and 1.
        low: Lower end of its interval over resampled dialogues.
        high: Upper end.
        num: Turns it rests on (hallucination: values).
        note: Details needed for comparison: signature, entity list.
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
        """Return a flat JSON-ready dict; `num` as `n`, followed by the system's fields."""
        row = to_row(self)
        del row["system"]
        system = self.system.to_json()
        return {"system": system.pop("name"), **system, **row, "n": row.pop("num")}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueTableRow":
        """Build from `to_json` output."""
        system = DialogueSystem.from_json({**row, "name": row["system"]})
        figures = (row["domain"], row["metric"], row["value"], row["low"], row["high"], row["n"])
        return cls(system, *figures, note=row["note"])


@dataclass(frozen=True, slots=True)
class DialogueComparison:
    """System `a` minus system `b` on the same turns: difference, interval, two-sided p (uncorrected).

    Attributes:
        claim: The claim that the pair tests, such as `meta knowledge`.
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
        row = {**to_row(self), "a": self.a.to_json(), "b": self.b.to_json()}
        return {**row, "n": row.pop("num"), "verdict": self.verdict}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueComparison":
        """Build from `to_json` output."""
        a, b = (DialogueSystem.from_json(row[side]) for side in ("a", "b"))
        figures = (row["domain"], row["metric"], row["value"], row["low"], row["high"], row["p"], row["n"])
        return cls(a, b, *figures, num_dialogues=row["num_dialogues"], claim=row["claim"])


def write_rows(path: Path, rows: Iterable[DialogueRow]) -> int:
    """Write rows as JSONL, one per turn in the given order; the file appears whole or not at all. Returns the count."""
    return write_json_lines(path, (to_row(row) for row in rows))


def read_rows(path: Path) -> Iterator[DialogueRow]:
    """Yield the rows of `write_rows`.

    Raises:
        ArtifactError: A line is not such a row; names file and line.
    """
    return read_json_lines(path, DialogueRow, what="row of dialogue scores")


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """T turns of one system, in the order of its rows.

    Attributes:
        ids: Turn ids.
        dialogues: Their dialogues.
        domains: Their domains.
        first_mention: Whether the reference names an entity that the context has not, bool[T].
        has_gold: Whether the turn has gold values, bool[T].
        values: Statistic → its numbers, float64[T, S]; NaN where a turn does not have it.
        known: Statistic → which turns have it, bool[T].
    """

    ids: tuple[str, ...]
    dialogues: tuple[str, ...]
    domains: tuple[str, ...]
    first_mention: Bools
    has_gold: Bools
    values: dict[str, Floats]
    known: dict[str, Bools]

    @classmethod
    def read(cls, rows: Iterable[DialogueRow], *, count_api: bool = False, names: dict[str, str] | None = None) -> "TurnColumns":
        """Take from rows, one after the other, what is compared; API turns only with `count_api`.

        `names` holds the texts of other systems' turns, which are shared with this one.
        """
        shared = {} if names is None else names
        ids: list[str] = []
        dialogues: list[str] = []
        domains: list[str] = []
        first, gold = [], []
        numbers: dict[str, tuple[array[int], array[float]]] = {}
        for row in rows:
            if row.kind != "response" and not count_api:
                continue
            for name, values in row.statistics.items():
                places, found = numbers.setdefault(name, (array("q"), array("d")))
                places.append(len(ids))
                found.extend(values)
            for column, text in ((ids, row.id), (dialogues, row.dialogue), (domains, row.domain)):
                column.append(shared.setdefault(text, text))
            first.append(row.first_mention)
            gold.append(row.has_gold)
        columns = {name: _spread(*found, num=len(ids)) for name, found in numbers.items()}
        return cls(
            tuple(ids),
            tuple(dialogues),
            tuple(domains),
            first_mention=np.array(first, dtype=np.bool_),
            has_gold=np.array(gold, dtype=np.bool_),
            values={name: values for name, (values, _) in columns.items()},
            known={name: known for name, (_, known) in columns.items()},
        )

    def __len__(self) -> int:
        """Return the number of turns T."""
        return len(self.ids)

    def take(self, places: Sequence[int] | npt.NDArray[np.int64]) -> "TurnColumns":
        """Return some of the turns, in the given order."""
        index = np.asarray(places, dtype=np.int64)
        ids, dialogues, domains = ([column[i] for i in index.tolist()] for column in (self.ids, self.dialogues, self.domains))
        return TurnColumns(
            tuple(ids),
            tuple(dialogues),
            tuple(domains),
            first_mention=self.first_mention[index],
            has_gold=self.has_gold[index],
            values={name: values[index] for name, values in self.values.items()},
            known={name: known[index] for name, known in self.known.items()},
        )

    def counted(self, metric: DialogueMetric) -> npt.NDArray[np.int64]:
        """Return the turns that count for a metric, rising."""
        if metric.statistic not in self.known:
            return np.empty(0, dtype=np.int64)
        known = self.known[metric.statistic]
        counted = {"": known, "first_mention": known & self.first_mention, "no_gold": known & ~self.has_gold}[metric.only]
        return np.flatnonzero(counted)


def _spread(places: "array[int]", found: "array[float]", *, num: int) -> tuple[Floats, Bools]:
    """Return the numbers of a statistic, [T, S], and which turns have it."""
    at = np.frombuffer(places, dtype=np.int64)
    values = np.full((num, len(found) // len(places)), np.nan)
    values[at] = np.frombuffer(found, dtype=np.float64).reshape(len(places), -1)
    known = np.zeros(num, dtype=np.bool_)
    known[at] = True
    return values, known
