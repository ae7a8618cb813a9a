"""The metrics of the dialogue evaluation: each a function of sums of per-turn statistics.

A statistic is a tuple of numbers of one turn: BLEU's ten, (true positives, false positives, false negatives), or a numerator
and its denominator. Sums over turns give the metric, sums over resampled dialogues its interval.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.evaluation.bleu import BLEU_VERSIONS

Floats = npt.NDArray[np.float64]
Formula = Literal["bleu", "bleu_maker", "precision", "recall", "f1", "ratio"]
Only = Literal["", "first_mention", "no_gold"]

ENTITY_F1, ANNOTATED_F1, HALLUCINATION, MRR = "entity_f1", "annotated_f1", "hallucination", "mrr"
RECALL_VALUE, RECALL_ID = "recall_value", "recall_id"

_BLEU = {version.name: version for version in BLEU_VERSIONS}
_AT = re.compile(r"(recall_value|recall_id)@(\d+)")


@dataclass(frozen=True, slots=True)
class DialogueMetric:
    """A metric.

    Attributes:
        name: Its name in tables and files.
        statistic: The statistic it sums.
        formula: What becomes of the sums.
        only: Turns that count: all (empty), first mentions, or turns without gold values.
    """

    name: str
    statistic: str
    formula: Formula
    only: Only = ""

    @property
    def is_retrieval(self) -> bool:
        """Whether it scores the retriever (else the response)."""
        return self.statistic == MRR or _AT.fullmatch(self.statistic) is not None

    def value(self, sums: Floats) -> Floats:
        """Return the metric of sums [..., S]; leading axes are kept, NaN where nothing counted."""
        if self.formula in _BLEU:
            return _BLEU[self.formula].score(sums)
        top, bottom = _fraction(self.formula, sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Floats = np.where(bottom > 0, top / bottom, np.nan)
        return share

    def num(self, sums: Floats, turns: int) -> int:
        """Return what a figure rests on: values for hallucination, else the turns that count."""
        return int(sums[1]) if self.statistic == HALLUCINATION else turns


def higher_is_better(metric: str) -> bool:
    """Whether more of `metric` is better: of all but hallucination."""
    return not metric.startswith(HALLUCINATION)


def list_metrics(statistics: Iterable[str]) -> tuple[DialogueMetric, ...]:
    """Return the metrics that these statistics allow, in the order of tables; recalls by k."""
    known = set(statistics)
    at = sorted((m for name in known if (m := _AT.fullmatch(name))), key=lambda m: (m[1] == RECALL_ID, int(m[2])))
    ranked = [match[0] for match in at] + [MRR]
    metrics = [
        DialogueMetric("bleu", "bleu", "bleu"),
        DialogueMetric("bleu_maker", "bleu_maker", "bleu_maker"),
        *_three("entity", ENTITY_F1),
        *_three("annotated", ANNOTATED_F1),
        DialogueMetric(HALLUCINATION, HALLUCINATION, "ratio"),
        DialogueMetric(f"{HALLUCINATION}_no_gold", HALLUCINATION, "ratio", "no_gold"),
        *(DialogueMetric(name, name, "ratio") for name in ranked),
        *(DialogueMetric(f"first_{name}", name, "ratio", "first_mention") for name in ranked),
    ]
    return tuple(metric for metric in metrics if metric.statistic in known)


def _three(prefix: str, statistic: str) -> tuple[DialogueMetric, ...]:
    return (
        DialogueMetric(statistic, statistic, "f1"),
        DialogueMetric(f"{prefix}_precision", statistic, "precision"),
        DialogueMetric(f"{prefix}_recall", statistic, "recall"),
    )


def _fraction(formula: Formula, sums: Floats) -> tuple[Floats, Floats]:
    """Return numerator and denominator; of counts (true positives, false positives, false negatives), or as they are."""
    hits = sums[..., 0]
    if formula == "ratio":
        return hits, sums[..., 1]
    if formula == "precision":
        return hits, hits + sums[..., 1]
    if formula == "recall":
        return hits, hits + sums[..., 2]
    return 2 * hits, 2 * hits + sums[..., 1] + sums[..., 2]
