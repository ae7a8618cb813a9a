"""The metrics of the dialogue evaluation, each a function of sums of per-turn statistics; corpus BLEU among them."""

import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU as SacreBleu

Floats = npt.NDArray[np.float64]

_ORDERS = 4
_SPLIT = str.maketrans({mark: f" {mark} " for mark in string.punctuation})


def split_punctuation(text: str) -> str:
    """Lower case, a blank on either side of every ASCII punctuation character, blanks collapsed (MAKER, Q-TOD)."""
    return " ".join(text.lower().translate(_SPLIT).split())


@dataclass(frozen=True, slots=True)
class BleuVersion:
    """One way to tokenise and smooth.

    Attributes:
        name: Name of the metric.
        tokenize: sacreBLEU's tokenizer.
        smooth: Its smoothing: `exp` (its default), or `none` (a zero precision makes the score zero, as in the Perl script).
        prepare: Preprocessing of both texts.
        prepared: That in words, for the signature; empty for nothing.
    """

    name: str
    tokenize: str
    smooth: Literal["exp", "none"]
    prepare: Callable[[str], str] = field(repr=False)
    prepared: str = ""

    @property
    def signature(self) -> str:
        """Return sacreBLEU's signature, and what was done to the texts before."""
        scorer = _scorer(self)
        scorer.corpus_score(["a"], [["a"]])  # the signature names the number of references, known only after a score
        signature = str(scorer.get_signature())
        return f"{signature}|prepared:{self.prepared}" if self.prepared else signature

    def statistics(self, response: str, reference: str) -> tuple[float, ...]:
        """Return the 10 sufficient statistics of one turn.

        Matches of 1- to 4-grams, 1- to 4-grams of the response, its tokens, tokens of the reference.
        """
        score = _scorer(self).corpus_score([self.prepare(response)], [[self.prepare(reference)]])
        return tuple(float(n) for n in (*score.counts, *score.totals, score.sys_len, score.ref_len))

    def score(self, sums: Floats) -> Floats:
        """Return BLEU (0 to 100) of summed statistics [..., 10]; leading axes are kept (resamples)."""
        matches, totals = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
        length, wanted = sums[..., -2], sums[..., -1]
        # exp: the first order without a match counts 1/2 match, the next one 1/4, …
        halvings = 2.0 ** np.cumsum(matches == 0, axis=-1)
        counted = np.where(matches > 0, matches, 1 / halvings if self.smooth == "exp" else 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(totals > 0, np.log(counted / totals), -np.inf)
            penalty = np.where(length < wanted, np.exp(1 - wanted / length), 1.0)
        defined = (matches > 0).any(axis=-1) & (length > 0)
        score: Floats = np.where(defined, 100 * penalty * np.exp(logs.mean(axis=-1)), 0.0)
        return score


BLEU = BleuVersion("bleu", "13a", "exp", prepare=str)
BLEU_MAKER = BleuVersion("bleu_maker", "none", "none", prepare=split_punctuation, prepared="punctuation-split")
BLEU_VERSIONS = (BLEU, BLEU_MAKER)


@cache
def _scorer(version: BleuVersion) -> SacreBleu:
    # `force` keeps sacreBLEU from warning about text that is tokenised already: here it is so on purpose.
    return SacreBleu(lowercase=True, tokenize=version.tokenize, smooth_method=version.smooth, force=True)


Formula = Literal["bleu", "bleu_maker", "precision", "recall", "f1", "ratio"]
Only = Literal["", "first_mention", "no_gold"]

ENTITY_F1, ANNOTATED_F1, HALLUCINATION, MRR = "entity_f1", "annotated_f1", "hallucination", "mrr"
RECALL_VALUE, RECALL_ID = "recall_value", "recall_id"
# Expected recall is that of a random order of what ties; `fit` the share of retrieved entities that satisfy the user's request,
# and its ceiling what the number of such entities allows.
EXPECTED, FIT, FIT_CEILING = "expected_", "fit", "fit_ceiling"

_BLEU = {version.name: version for version in BLEU_VERSIONS}
_RANKED = (RECALL_VALUE, RECALL_ID, EXPECTED + RECALL_VALUE, EXPECTED + RECALL_ID, FIT, FIT_CEILING)
_AT = re.compile(rf"({'|'.join(_RANKED)})@(\d+)")


@dataclass(frozen=True, slots=True)
class DialogueMetric:
    """A metric.

    Attributes:
        name: Its name in tables and files.
        statistic: The statistic it sums.
        formula: The metric as a function of the sums.
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
    at = sorted((m for name in known if (m := _AT.fullmatch(name))), key=lambda m: (_RANKED.index(m[1]), int(m[2])))
    ranked = [*(m[0] for m in at if m[1] in (RECALL_VALUE, RECALL_ID)), MRR, *(m[0] for m in at if m[1].startswith(EXPECTED))]
    fits = [m[0] for m in at if m[1] in (FIT, FIT_CEILING)]
    metrics = [
        DialogueMetric("bleu", "bleu", "bleu"),
        DialogueMetric("bleu_maker", "bleu_maker", "bleu_maker"),
        *_three("entity", ENTITY_F1),
        *_three("annotated", ANNOTATED_F1),
        DialogueMetric(HALLUCINATION, HALLUCINATION, "ratio"),
        DialogueMetric(f"{HALLUCINATION}_no_gold", HALLUCINATION, "ratio", "no_gold"),
        *(DialogueMetric(name, name, "ratio") for name in (*ranked, *fits)),
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
