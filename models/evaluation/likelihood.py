"""Likelihood of held-out text: `bits_per_byte`, the one name and the one unit for it in this project."""

import math
from collections.abc import Iterable

from models.errors import NumericsError
from models.schema import SourceScore


def bits_per_byte(nll: float, num_bytes: int) -> float:
    """Return the cross-entropy of a text in bits per UTF-8 byte, comparable across tokenizers.

    Args:
        nll: Σ −log p over the response tokens and, unless the text was cut, its end, nats.
        num_bytes: UTF-8 bytes of the response (the end token has none: stopping in time is part of the cost).

    Raises:
        NumericsError: `nll` is not finite, or `num_bytes` is not positive.
    """
    if not math.isfinite(nll):
        raise NumericsError(f"bits_per_byte: `nll` must be finite, but is {nll}. Look for a non-finite loss in the scoring.")
    if num_bytes <= 0:
        raise NumericsError(f"bits_per_byte: `num_bytes` must be greater than 0, but is {num_bytes}. Leave empty responses out.")
    return nll / math.log(2) / num_bytes


def corpus_bits_per_byte(scores: Iterable[SourceScore]) -> float:
    """Return Σ nll / Σ bytes in bits over a corpus (not the mean of per-text ratios, which overweights short texts).

    Raises:
        NumericsError: There is no text, or a sum is not finite.
    """
    nll, num_bytes = 0.0, 0
    for score in scores:
        nll += score.nll
        num_bytes += score.num_bytes
    return bits_per_byte(nll, num_bytes)
