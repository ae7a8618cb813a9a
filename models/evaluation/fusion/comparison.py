"""From per-example rows to the results table, and the paired differences the paper's claims rest on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import DataError, Problem
from models.evaluation.bootstrap import Resampling, ratio_differences, ratio_intervals
from models.evaluation.fusion.claims import BestSource, Pair
from models.evaluation.fusion.correctness import bits_per_byte
from models.evaluation.fusion.scores import (
    ACCURACY,
    ALL_FAMILIES,
    BITS_PER_BYTE,
    REWARD_PREFIX,
    ComparisonRow,
    ScoreRow,
    System,
    TableRow,
    higher_is_better,
)

TELLING = 0.05
"""Where the best system is right less often than this, accuracy hardly tells systems apart."""

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
    likelihood = [BITS_PER_BYTE] if any(row.nll is not None for row in rows) else []
    return accuracy + likelihood + [REWARD_PREFIX + name for name in rewards]


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
    # An example nobody has a value for was not asked (no check); bits per byte is asked of every ground truth.
    first = next(iter(scores.values()))
    asked = [
        first[i].nll is not None if metric == BITS_PER_BYTE else any(v is not None for v in column)
        for i, column in enumerate(columns)
    ]
    kept = [i for i, column in enumerate(columns) if all(v is not None for v in column)]
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
        if row.nll is None or not row.lossless:
            return None
        return bits_per_byte(row.nll, row.num_bytes) * row.num_bytes
    return row.rewards.get(metric.removeprefix(REWARD_PREFIX))


def aggregate(scores: Scores, *, resampling: Resampling | None = None) -> tuple[TableRow, ...]:
    """Return value and interval of every metric for each family (and `all`, pooled over examples) and system.

    Accuracy and rewards are means over examples; bits per byte is Σ bits / Σ bytes. An example that one system cannot be scored
    on (a lossy tokenizer) is left out for all of them and counted in `left_out`; a family with no example left has no row.

    Raises:
        DataError: The systems were not scored on the same examples.
    """
    rows: list[TableRow] = []
    for metric in list_metrics(scores):
        values = collect_values(scores, metric)
        for family in list_families(scores):
            rows += _family_rows(values, family, resampling or Resampling())
    return tuple(rows)


def paired(
    scores: Scores, pairs: Iterable[Pair], *, families: Sequence[str] | None = None, resampling: Resampling | None = None
) -> tuple[ComparisonRow, ...]:
    """Return difference, interval and p of each pair, metric and family (None: `all` and every family).

    The examples of a comparison are those of `aggregate`, so that a difference equals the difference of two table rows.

    Raises:
        DataError: A pair names a system without scores, or the systems were not scored on the same examples.
    """
    wanted = list(pairs)
    _check_known(scores, wanted)
    rows: list[ComparisonRow] = []
    for metric in list_metrics(scores):
        values = collect_values(scores, metric)
        here = [p for p in wanted if p.metric in (None, metric) and p.a in values.values and p.b in values.values]
        for family in families or list_families(scores):
            rows += _difference_rows(values, here, family, resampling or Resampling())
    return tuple(rows)


def choose_best_source(scores: Scores, *, chosen_on: str) -> BestSource:
    """Return the best source per metric over all families on these scores; the first in order wins ties.

    Pass the validation split's scores and `chosen_on="valid"`; with the test split's own scores it is an oracle.
    """
    sources = {system: rows for system, rows in scores.items() if system.kind == "source"}
    return BestSource({metric: _best(collect_values(sources, metric)) for metric in list_metrics(sources)}, chosen_on)


def headline_metric(metrics: Iterable[str]) -> str:
    """Return the metric a report leads with: accuracy where there are checks, else the first one."""
    known = list(dict.fromkeys(metrics))
    return ACCURACY if ACCURACY in known or not known else known[0]


def _family_rows(values: MetricValues, family: str, resampling: Resampling) -> list[TableRow]:
    mask = values.rows_of(family)
    if not mask.any():
        return []
    lost = values.num_left_out(family)
    columns = np.stack(list(values.values.values()), axis=1)[mask]
    intervals = ratio_intervals(columns, values.sizes[mask], resampling=resampling)
    return [
        TableRow(system, family, values.metric, got.value, got.low, got.high, got.num, left_out=lost)
        for system, got in zip(values.values, intervals, strict=True)
    ]


def _difference_rows(values: MetricValues, pairs: Sequence[Pair], family: str, resampling: Resampling) -> list[ComparisonRow]:
    mask = values.rows_of(family)
    if not pairs or not mask.any():
        return []
    gaps = np.stack([values.values[p.a] - values.values[p.b] for p in pairs], axis=1)[mask]
    differences = ratio_differences(gaps, values.sizes[mask], resampling=resampling)
    return [
        ComparisonRow(p.a, p.b, family, values.metric, d.value, d.low, d.high, d.p, d.num, note=p.note)
        for p, d in zip(pairs, differences, strict=True)
    ]


def _best(values: MetricValues) -> System:
    sign = 1 if higher_is_better(values.metric) else -1
    mask = values.rows_of(ALL_FAMILIES)
    size = values.sizes[mask].sum()
    # max keeps the first of equals: the order of the sources, as everywhere.
    return max(values.values, key=lambda system: sign * values.values[system][mask].sum() / size)


def _check_known(scores: Scores, pairs: Sequence[Pair]) -> None:
    known = ", ".join(s.label for s in scores)
    lost = [s for pair in pairs for s in (pair.a, pair.b) if s not in scores]
    if lost:
        problems = [Problem(f"system `{s.label}`", f"must be among the scored ones ({known})") for s in dict.fromkeys(lost)]
        raise DataError("The comparison names systems without scores", problems)
