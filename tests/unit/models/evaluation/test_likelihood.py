"""Bits per byte."""

import math

import pytest

from models.errors import NumericsError
from models.evaluation.likelihood import bits_per_byte, corpus_bits_per_byte
from models.schema import SourceScore


def test_a_uniform_guess_over_bytes_costs_eight_bits() -> None:
    assert bits_per_byte(12 * math.log(256), 12) == pytest.approx(8.0)


def test_the_corpus_figure_weighs_texts_by_their_bytes() -> None:
    short = SourceScore(nll=10 * math.log(2), num_tokens=1, num_bytes=1, lossless=True)
    long = SourceScore(nll=10 * math.log(2), num_tokens=9, num_bytes=19, lossless=True)
    assert corpus_bits_per_byte([short, long]) == pytest.approx(1.0)


@pytest.mark.parametrize(("nll", "num_bytes"), [(math.nan, 3), (math.inf, 3), (1.0, 0)])
def test_nonsense_is_refused(nll: float, num_bytes: int) -> None:
    with pytest.raises(NumericsError, match="bits_per_byte"):
        bits_per_byte(nll, num_bytes)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(NumericsError, match="num_bytes"):
        corpus_bits_per_byte([])
