"""Corpus BLEU from sufficient statistics of each turn, so that a bootstrap over dialogues tokenises nothing anew.

Two versions are kept apart, since BLEU means nothing without its tokenisation: `bleu` is sacreBLEU's own, and `bleu_maker`
comes as close as sacreBLEU can to the `multi-bleu.perl -lc` behind the figures that MAKER and MK-TOD print.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU as SacreBleu

Floats = npt.NDArray[np.float64]

NUM_STATISTICS = 10
"""Of a turn: matches of 1- to 4-grams, 1- to 4-grams of the response, its tokens, tokens of the reference."""

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
        prepare: What both texts go through first.
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
        """Return the `NUM_STATISTICS` sufficient statistics of one turn."""
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
