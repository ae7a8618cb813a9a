"""The records of the evaluation: systems, per-example rows, table rows and comparisons; and their files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.errors import ArtifactError
from models.files import replacing
from models.schema import Finish

Kind = Literal["source", "untrained", "method"]

ACCURACY = "accuracy"
BITS_PER_BYTE = "bits_per_byte"
REWARD_PREFIX = "reward/"
ALL_FAMILIES = "all"


@dataclass(frozen=True, slots=True)
class System:
    """A model under test: a source, a target before fusion (`untrained`), or a target fused by a method.

    Attributes:
        name: Source name, or method name.
        kind: Kind of system.
        target: The target's source name; None for a source.
    """

    name: str
    kind: Kind
    target: str | None = None

    @property
    def label(self) -> str:
        """Short text for tables and axes: `scholar`, `scholar (untrained)`, `profuser → scholar`."""
        if self.kind == "method" and self.target:
            return f"{self.name} → {self.target}"
        return f"{self.name} (untrained)" if self.kind == "untrained" else self.name


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One system on one held-out example.

    Attributes:
        id: Example id.
        family: Its family.
        nll: Σ −log p of the ground truth and, unless its reader cut it, its end, nats; None without a ground truth.
        num_bytes: UTF-8 bytes of the ground truth; 0 without one.
        num_tokens: Tokens summed.
        lossless: Whether the tokenizer reproduces the ground truth; else `nll` covers only what it can represent.
        correct: Whether the answer is right; None without a check or without answers.
        rewards: Scorer name → score of the answer; a scorer that gave none is absent.
        text: The answer, greedy; None if models were not asked.
        finish: Why the answer ended.
    """

    id: str
    family: str
    nll: float | None
    num_bytes: int
    num_tokens: int
    lossless: bool
    correct: bool | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One figure of the results table; the `left_out` examples could not be scored by every system, so enter for none."""

    system: System
    family: str
    metric: str
    value: float
    low: float
    high: float
    num: int
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a flat JSON-ready dict: system, kind, target, family, metric, value, low, high, n, left_out."""
        return _flat(self.system) | {
            "family": self.family,
            "metric": self.metric,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.num,
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "TableRow":
        system = System(row["system"], row["kind"], row["target"])
        figures = (row["family"], row["metric"], row["value"], row["low"], row["high"], row["n"], row["left_out"])
        return cls(system, *figures)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """System `a` minus system `b` on the same examples: difference, interval, two-sided p (uncorrected), count.

    Attributes:
        note: How `b` was chosen, where that matters (best source: on which split).
    """

    a: System
    b: System
    family: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    num: int
    note: str = ""

    @property
    def verdict(self) -> Literal["better", "worse", "unclear"]:
        """Whether `a` is better than `b`; `unclear` if the interval contains zero."""
        if self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.low > 0) == higher_is_better(self.metric) else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict; `a` and `b` as {system, kind, target}."""
        row = asdict(self)
        return row | {"a": _flat(self.a), "b": _flat(self.b), "n": row.pop("num"), "verdict": self.verdict}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ComparisonRow":
        a, b = (System(row[side]["system"], row[side]["kind"], row[side]["target"]) for side in ("a", "b"))
        figures = (row["family"], row["metric"], row["value"], row["low"], row["high"], row["p"], row["n"])
        return cls(a, b, *figures, note=row["note"])


def higher_is_better(metric: str) -> bool:
    """Whether more of `metric` is better (accuracy, rewards) or less (bits per byte)."""
    return metric != BITS_PER_BYTE


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> int:
    """Write rows as JSONL, one per example in the given order; the file appears whole or not at all. Returns the count."""
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n")
            count += 1
        file.flush()
    return count


def read_scores(path: Path, *, with_text: bool = True) -> Iterator[ScoreRow]:
    """Yield the rows of `write_scores`; without the answers' text where only figures are needed.

    Raises:
        ArtifactError: A line is not such a row; names file and line.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                yield ScoreRow(**(row if with_text else row | {"text": None}))
            except (TypeError, ValueError) as err:
                raise ArtifactError(f"`{path}` line {number} is not a score row ({err}). Run the evaluation again.") from err


def _flat(system: System) -> dict[str, Any]:
    return {"system": system.name, "kind": system.kind, "target": system.target}
