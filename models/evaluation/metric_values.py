"""From per-example rows to arrays: which examples enter a metric, the same ones for every system."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import DataError, Problem
from models.evaluation.likelihood import bits_per_byte
from models.evaluation.scores import ACCURACY, ALL_FAMILIES, BITS_PER_BYTE, REWARD_PREFIX, ScoreRow, System

Scores = Mapping[System, Sequence[ScoreRow]]
"""System → its rows; all systems have the same examples in the same order."""


@dataclass(frozen=True, slots=True)
class MetricValues:
    """One metric on the N examples every system could be scored on.

    Attributes:
        metric: Its name.
        families: str[N].
        sizes: float64[N], denominators: bytes for bits per byte, else 1.
        values: System → float64[N] numerators; the metric is Σ values / Σ sizes.
        left_out: Family → examples that some system could be scored on but not all (bits per byte: not lossless for all).
    """

    metric: str
    families: npt.NDArray[np.str_]
    sizes: npt.NDArray[np.float64]
    values: Mapping[System, npt.NDArray[np.float64]]
    left_out: Mapping[str, int]

    def rows_of(self, family: str) -> npt.NDArray[np.bool_]:
        """Return bool[N], the examples of `family` (`all`: every one)."""
        return np.full(len(self.families), True) if family == ALL_FAMILIES else self.families == family

    def num_left_out(self, family: str) -> int:
        """Return how many examples of `family` (`all`: of every one) were left out."""
        return sum(self.left_out.values()) if family == ALL_FAMILIES else self.left_out.get(family, 0)


def check_same_examples(scores: Scores) -> None:
    """Require that all systems were scored on the same examples in the same order.

    Raises:
        DataError: Names the first system that differs, and where.
    """
    systems = list(scores)
    if not systems or not scores[systems[0]]:
        raise DataError("There is nothing to compare", [Problem("the scores", "must hold at least one system and one example")])
    expected = [row.id for row in scores[systems[0]]]
    for system in systems[1:]:
        ids = [row.id for row in scores[system]]
        if ids != expected:
            at = next((i for i, (x, y) in enumerate(zip(expected, ids, strict=False)) if x != y), min(len(expected), len(ids)))
            rule = f"must be scored on the examples of `{systems[0].label}` ({len(expected)} rows)"
            seen = f"{len(ids)} rows, the first difference at row {at}"
            problem = Problem(f"system `{system.label}`", rule, seen, "Evaluate all systems with the same corpus and limit.")
            raise DataError("The systems cannot be compared", [problem])


def list_metrics(scores: Scores) -> list[str]:
    """Return the metrics that at least one row has: accuracy, bits per byte, rewards by name."""
    rows = [row for system in scores.values() for row in system]
    rewards = sorted({name for row in rows for name in row.rewards})
    accuracy = [ACCURACY] if any(row.correct is not None for row in rows) else []
    return accuracy + [BITS_PER_BYTE] + [REWARD_PREFIX + name for name in rewards]


def list_families(scores: Scores) -> list[str]:
    """Return `all` and the families in alphabetical order."""
    return [ALL_FAMILIES, *sorted({row.family for rows in scores.values() for row in rows})]


def collect_values(scores: Scores, metric: str) -> MetricValues:
    """Gather one metric over the examples that every system with this metric was scored on.

    A system without a single value (it was not asked to answer) does not take part, and leaves nobody else's rows out.
    """
    check_same_examples(scores)
    table = {system: [_value(row, metric) for row in rows] for system, rows in scores.items()}
    if metric != BITS_PER_BYTE:
        table = {system: values for system, values in table.items() if any(v is not None for v in values)}
    columns = list(zip(*table.values(), strict=True))
    # An example nobody has a value for was not asked (no check); bits per byte is asked of every text.
    asked = [metric == BITS_PER_BYTE or any(v is not None for v in column) for column in columns]
    kept = [i for i, column in enumerate(columns) if all(v is not None for v in column)]
    first = next(iter(scores.values()))
    lost = (first[i].family for i in sorted(set(range(len(columns))) - set(kept)) if asked[i])
    return MetricValues(
        metric=metric,
        families=np.array([first[i].family for i in kept], dtype=np.str_),
        sizes=np.array([first[i].num_bytes if metric == BITS_PER_BYTE else 1 for i in kept], dtype=np.float64),
        values={system: np.array([values[i] for i in kept], dtype=np.float64) for system, values in table.items()},
        left_out=Counter(lost),
    )


def _value(row: ScoreRow, metric: str) -> float | None:
    if metric == ACCURACY:
        return None if row.correct is None else float(row.correct)
    if metric == BITS_PER_BYTE:
        return bits_per_byte(row.nll, row.num_bytes) * row.num_bytes if row.lossless else None
    return row.rewards.get(metric.removeprefix(REWARD_PREFIX))
