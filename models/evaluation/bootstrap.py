"""Percentile bootstrap over examples: means, ratios of sums, and paired differences.

Every statistic here is a function of sums over examples. So one routine draws the resamples and sums all columns with them: two
systems that stand in columns of one call are resampled together, which is what makes a comparison paired.
The percentile interval has no width where all values are equal (an accuracy of exactly 0 or 1): read it with its `num`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import NumericsError

Floats = npt.NDArray[np.float64]

# Counts drawn at a time: 32 MiB of float64, whatever the number of examples.
_CHUNK_ENTRIES = 1 << 22


@dataclass(frozen=True, slots=True)
class Resampling:
    """How to resample: `samples` draws of all examples with replacement, interval level, seed."""

    samples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic with its bootstrap interval over `num` examples."""

    value: float
    low: float
    high: float
    num: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Statistic of a minus statistic of b over the same `num` examples, with its interval.

    Attributes:
        p: Two-sided: twice the share of resamples on the other side of zero, at least 1 / samples, at most 1.
    """

    value: float
    low: float
    high: float
    p: float
    num: int


def ratio_interval(numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, resampling: Resampling | None = None) -> Interval:
    """Return Σ numerators / Σ denominators (both [N]); whole examples are resampled and the ratio is recomputed.

    Raises:
        NumericsError: Nothing to sum, a value that is not finite, different lengths, or a denominator that is not positive.
    """
    tops = _checked(numerators, "numerators")
    return ratio_intervals(tops[:, None], _checked_sizes(denominators, len(tops)), resampling=resampling)[0]


def ratio_intervals(columns: Floats, sizes: Floats, *, resampling: Resampling | None = None) -> list[Interval]:
    """Return `ratio_interval` of each column [N, M] over common `sizes` [N], drawing the resamples once for all."""
    how = resampling or Resampling()
    values, draws = _ratios(columns, sizes, how)
    bounds = [_percentiles(column, how.confidence) for column in draws.T]
    return [Interval(float(v), low, high, num=len(sizes)) for v, (low, high) in zip(values, bounds, strict=True)]


def ratio_differences(gaps: Floats, sizes: Floats, *, resampling: Resampling | None = None) -> list[Difference]:
    """Return Σ gaps / Σ sizes of each column of `gaps` = a − b [N, M] over common `sizes` [N], from the same resamples.

    Row i of both systems is the same example and is drawn for both. With `sizes` of ones it is a difference of means, else of
    ratios (cross-entropies over the bytes of the same texts).
    """
    how = resampling or Resampling()
    values, draws = _ratios(gaps, sizes, how)
    bounds = [(*_percentiles(column, how.confidence), _two_sided(column)) for column in draws.T]
    return [Difference(float(v), low, high, p, num=len(sizes)) for v, (low, high, p) in zip(values, bounds, strict=True)]


def resample_sums(columns: Floats, *, resampling: Resampling) -> Floats:
    """Sum `columns` [N, M] over each resample of their rows; returns [samples, M].

    The draws depend on N and the seed only, so that columns summed in separate calls are still paired.
    """
    return np.concatenate([counts @ columns for counts in _draw_counts(len(columns), resampling)])


def _draw_counts(num: int, how: Resampling) -> Iterator[Floats]:
    """Yield blocks [chunk, N] of how often each row is drawn; memory does not grow with the number of resamples."""
    generator = np.random.default_rng(how.seed)
    chunk = max(1, _CHUNK_ENTRIES // num)
    for start in range(0, how.samples, chunk):
        rows = min(chunk, how.samples - start)
        drawn = generator.integers(0, num, size=(rows, num)) + np.arange(rows)[:, None] * num
        yield np.bincount(drawn.ravel(), minlength=rows * num).reshape(rows, num).astype(np.float64)


def _ratios(columns: Floats, sizes: Floats, how: Resampling) -> tuple[Floats, Floats]:
    """Return the M ratios of sums, and [samples, M] of them over the resamples."""
    sums = resample_sums(np.concatenate([columns, sizes[:, None]], axis=1), resampling=how)
    return columns.sum(axis=0) / sizes.sum(), sums[:, :-1] / sums[:, -1:]


def _two_sided(draws: Floats) -> float:
    crossing = min(float(np.mean(draws <= 0)), float(np.mean(draws >= 0)))
    return min(1.0, max(2 * crossing, 1 / len(draws)))


def _percentiles(draws: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _checked_sizes(sizes: npt.ArrayLike, num: int) -> Floats:
    array = _checked(sizes, "denominators")
    if len(array) != num:
        raise NumericsError(f"bootstrap: one denominator per value is needed, but there are {len(array)} for {num} values.")
    if (array <= 0).any():
        raise NumericsError(f"bootstrap: denominators must be greater than 0, but row {int(np.argmax(array <= 0))} is not.")
    return array


def _checked(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise NumericsError(f"bootstrap: `{name}` must be a list of at least one value, but has shape {array.shape}.")
    if not np.isfinite(array).all():
        raise NumericsError(f"bootstrap: `{name}` must be finite, but row {int(np.argmin(np.isfinite(array)))} is not.")
    return array
