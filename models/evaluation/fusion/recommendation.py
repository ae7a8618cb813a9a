"""Which of several methods to use: what each metric says of them on the same rows, and one choice by a fixed rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.claims import Pair
from models.evaluation.fusion.comparison import TELLING, Scores, aggregate, list_metrics, paired
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

MEAN_REWARD = "mean"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one metric says.

    Attributes:
        metric: The metric.
        values: System → value with its interval, baselines included.
        best: The candidate with the best value.
        differences: Every other system → itself minus `best`, on the same examples.
        equals: Candidates that the intervals do not tell from the best one, itself included, in the order given.
        pick: The best candidate; of several equals the cheapest.
        gains: Baseline → the pick minus itself.
    """

    metric: str
    values: Mapping[System, TableRow]
    best: System
    differences: Mapping[System, ComparisonRow]
    equals: tuple[System, ...]
    pick: System
    gains: Mapping[System, ComparisonRow]

    @property
    def clear(self) -> bool:
        """Whether one candidate is told apart from all others."""
        return len(self.equals) == 1


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The choice.

    Attributes:
        lead: What the leading metric says; its pick is recommended.
        second: What bits per byte says, where it is not the leading metric and there are ground truths.
    """

    lead: Verdict
    second: Verdict | None = None

    @property
    def pick(self) -> System:
        """The candidate to use."""
        return self.lead.pick

    @property
    def alternative(self) -> System | None:
        """The pick by bits per byte, where that metric tells the recommended candidate from its best: the metrics disagree."""
        second = self.second
        return second.pick if second is not None and self.pick not in second.equals else None


def recommend(
    scores: Scores,
    candidates: Sequence[System],
    *,
    costs: Mapping[System, float],
    resampling: Resampling | None = None,
) -> Recommendation | None:
    """Choose among candidates by their rows; None where no metric has a value for any of them.

    The leading metric is accuracy where some row has a check (and the best candidate is right on 5 % of them), else the reward,
    else bits per byte. The candidate with the best value is compared with every other, paired by example. If all are told apart
    from it, it is chosen; else the cheapest of those that are not, of equally cheap ones the one with the better value.

    Args:
        scores: System → its rows on the validation split: candidates and baselines, on the same examples. Rewards that compare
            with a ground truth must be gone, and several scorers be one (`with_mean_reward`).
        candidates: Who may be chosen.
        costs: Candidate → what using it costs, in any unit.
        resampling: Of the intervals.
    """
    table = [row for row in aggregate(scores, resampling=resampling) if row.family == ALL_FAMILIES]
    judged = {metric: {r.system: r for r in table if r.metric == metric} for metric in list_metrics(scores)}
    able = {metric: values for metric, values in judged.items() if all(c in values for c in candidates)}
    if not able:
        return None
    lead, *rest = _ranked(able, candidates)
    second = BITS_PER_BYTE if BITS_PER_BYTE in rest else None
    verdicts = [_verdict(scores, able[m], candidates, costs=costs, resampling=resampling) for m in (lead, second) if m]
    return Recommendation(*verdicts)


def with_mean_reward(scores: Scores, scorers: Sequence[str]) -> dict[System, list[ScoreRow]]:
    """Return the rows with the rewards of `scorers` alone; of several, their mean z-score over all rows, named `mean`.

    A row that one of several scorers says nothing of has no mean.
    """
    scales = {}
    for name in scorers:
        given = [row.rewards[name] for rows in scores.values() for row in rows if name in row.rewards]
        scales[name] = (float(np.mean(given)), float(np.std(given)) or 1.0) if given else (0.0, 1.0)

    def kept(row: ScoreRow) -> dict[str, float]:
        if len(scorers) == 1:
            return {name: row.rewards[name] for name in scorers if name in row.rewards}
        if not scorers or any(name not in row.rewards for name in scorers):
            return {}
        return {MEAN_REWARD: float(np.mean([(row.rewards[n] - scales[n][0]) / scales[n][1] for n in scorers]))}

    return {system: [replace(row, rewards=kept(row)) for row in rows] for system, rows in scores.items()}


def _ranked(judged: Mapping[str, Mapping[System, TableRow]], candidates: Sequence[System]) -> list[str]:
    """Return the metrics, the leading one first."""
    rewards = [metric for metric in judged if metric.startswith(REWARD_PREFIX)]
    order = [*rewards, *(metric for metric in (BITS_PER_BYTE,) if metric in judged)]
    if ACCURACY not in judged:
        return order
    telling = max(judged[ACCURACY][c].value for c in candidates) >= TELLING
    return [ACCURACY, *order] if telling or not order else [*order, ACCURACY]


def _verdict(
    scores: Scores,
    values: Mapping[System, TableRow],
    candidates: Sequence[System],
    *,
    costs: Mapping[System, float],
    resampling: Resampling | None,
) -> Verdict:
    metric = values[candidates[0]].metric
    sign = 1 if higher_is_better(metric) else -1
    best = max(candidates, key=lambda c: sign * values[c].value)
    pairs = [Pair(system, best, metric) for system in values if system != best]
    rows = paired(scores, pairs, families=[ALL_FAMILIES], resampling=resampling)
    differences = {row.a: row for row in rows}
    equals = tuple(c for c in candidates if c == best or differences[c].verdict == "unclear")
    pick = min(equals, key=lambda c: (costs[c], -sign * values[c].value))
    against = [Pair(pick, system, metric) for system in values if system not in candidates]
    gains = {row.b: row for row in paired(scores, against, families=[ALL_FAMILIES], resampling=resampling)}
    return Verdict(metric, values, best, differences, equals, pick, gains)
