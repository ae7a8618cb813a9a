"""Recall@k and MRR over turns, each with its denominator and an interval from resampled dialogues."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Interval, Resampling, ratio_intervals
from models.evaluation.clusters import cluster_sums
from models.evaluation.dialogue.retrieval_scores import RetrievalRow

Floats = npt.NDArray[np.float64]
Rule = Literal["value", "id"]
Metric = Literal["recall", "mrr"]
ALL, FIRST_MENTIONS, DOMAIN = "all", "first_mentions", "domain/"


@dataclass(frozen=True, slots=True)
class RetrievalFigure:
    """One figure.

    Attributes:
        metric: `recall` (share of turns whose rank is at most k) or `mrr` (mean of 1 / rank, 0 beyond k).
        k: Entities looked at.
        rule: What must be found: every gold `value`, or every gold entity by `id`.
        group: Turns it is over: `all`, `first_mentions`, or `domain/<name>`.
        value: The figure, between 0 and 1.
        low: Lower end of its interval.
        high: Upper end.
        total: Numerator: turns found, or the sum of 1 / rank.
        num_turns: Denominator.
        num_dialogues: Dialogues these turns are from.
        num_empty: Turns among them that have gold values but none the knowledge base could give; they count as found.
    """

    metric: Metric
    k: int
    rule: Rule
    group: str
    value: float
    low: float
    high: float
    total: float
    num_turns: int
    num_dialogues: int
    num_empty: int


def retrieval_figures(
    rows: Iterable[RetrievalRow], *, recall_at: Sequence[int], resampling: Resampling | None = None
) -> list[RetrievalFigure]:
    """Return recall at each k, and MRR at the largest, by value and by id, for all turns, first mentions and each domain.

    A group without a turn that counts has no figures.

    Args:
        rows: Rows of `score_retrieval` with these `recall_at`.
        recall_at: The k.
        resampling: How dialogues are resampled.
    """
    scored, ks = list(rows), sorted(set(recall_at))
    figures = []
    for rule in ("value", "id"):
        counted = [row for row in scored if _counts(row, rule)]
        for group, members in _groups(counted):
            figures += _figures(members, rule, group, ks, resampling)
    return figures


def rank_columns(rows: Sequence[RetrievalRow], rule: Rule, *, recall_at: Sequence[int]) -> Floats:
    """Return float64[N, k + 1]: whether the rank is at most each k, and 1 / rank within the largest k."""
    ranks = [row.value_rank if rule == "value" else row.id_rank for row in rows]
    known = np.array([np.inf if rank is None else rank for rank in ranks], dtype=np.float64)[:, None]
    within = known <= np.array(recall_at, dtype=np.float64)
    return np.concatenate([within, np.where(known <= max(recall_at), 1 / known, 0.0)], axis=1)


def _figures(
    rows: Sequence[RetrievalRow], rule: Rule, group: str, ks: Sequence[int], resampling: Resampling | None
) -> list[RetrievalFigure]:
    columns = np.concatenate([rank_columns(rows, rule, recall_at=ks), np.ones((len(rows), 1))], axis=1)
    sums = cluster_sums(columns, [row.dialogue for row in rows])
    intervals = ratio_intervals(sums[:, :-1], sums[:, -1], resampling=resampling)
    empty = sum(rule == "value" and not row.num_looked_for for row in rows)
    names: list[tuple[Metric, int]] = [*(("recall", k) for k in ks), ("mrr", ks[-1])]
    totals = columns.sum(axis=0)[:-1]

    def figure(name: tuple[Metric, int], interval: Interval, total: float) -> RetrievalFigure:
        ends = (interval.value, interval.low, interval.high)
        return RetrievalFigure(*name, rule, group, *ends, float(total), len(rows), interval.num, empty)

    return [figure(*parts) for parts in zip(names, intervals, totals, strict=True)]


def _groups(rows: Sequence[RetrievalRow]) -> list[tuple[str, list[RetrievalRow]]]:
    domains = sorted({row.domain for row in rows})
    every = [
        (ALL, list(rows)),
        (FIRST_MENTIONS, [row for row in rows if row.first_mention]),
        *((DOMAIN + domain, [row for row in rows if row.domain == domain]) for domain in domains),
    ]
    return [(name, members) for name, members in every if members]


def _counts(row: RetrievalRow, rule: Rule) -> bool:
    return bool(row.num_values if rule == "value" else row.num_entities)
