"""Learning-rate schedules: one curve over all steps, one per phase, or one over the steps with ground truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from models.params.fusion import FusionParams
from models.training.learning_rate import Decay, rate_curve

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LrCurve:
    """Linear warm-up, then decay: the settings of `fusion` that determine learning rates."""

    lr: float
    decay: Decay
    warmup_ratio: float
    restart: bool

    @classmethod
    def of(cls, cfg: FusionParams) -> "LrCurve":
        return cls(cfg.lr, cfg.lr_schedule, cfg.warmup_ratio, cfg.optimiser_at_switch == "restart")

    def over(self, num_steps: int) -> Floats:
        """Return `rate_curve` over a span, float64[num_steps + 1], read-only."""
        return rate_curve(num_steps, warmup_ratio=self.warmup_ratio, decay=self.decay)


@dataclass(frozen=True, slots=True, eq=False)
class LearningRates:
    """The rates of a plan.

    Attributes:
        factors: float64[S + 1], what `fusion.lr` is multiplied by at each of S steps, and after the last.
        peaks: Peak rate of each phase.
    """

    factors: Floats
    peaks: tuple[float, ...]


def rates_by_steps(peaks: Sequence[float], boundaries: Sequence[int], curve: LrCurve) -> LearningRates:
    """Return the rates under `budget: steps`: one curve over the whole schedule, or one per phase if it restarts.

    Args:
        peaks: Peak rate of each phase.
        boundaries: First step of each phase, then the total.
        curve: Shape and reference rate.
    """
    phase_of = np.repeat(np.arange(len(peaks)), np.diff(boundaries))
    scale = np.append(np.asarray(peaks)[phase_of], peaks[-1]) / curve.lr
    if not curve.restart:
        return LearningRates(scale * curve.over(boundaries[-1]), tuple(peaks))
    spans = [curve.over(stop - start) for start, stop in pairwise(boundaries)]
    return LearningRates(scale * np.concatenate([*(s[:-1] for s in spans), spans[-1][-1:]]), tuple(peaks))


def rates_by_truth(
    peaks: Sequence[float], boundaries: Sequence[int], on_truth: npt.NDArray[np.bool_], curve: LrCurve
) -> LearningRates:
    """Return the rates under `budget: ground_truth`.

    The steps on the ground truth follow one curve, as if they were all there is: that of a single phase at `fusion.lr`. Where a
    schedule departs from it (phases with their own rates, a restart) they are scaled so that their sum is the same. Each run
    of steps between them has its own curve.

    Args:
        peaks: Peak rate of each phase.
        boundaries: First step of each phase, then the total.
        on_truth: bool[S], whether a step trains on the ground truth.
        curve: Shape and reference rate.
    """
    total = boundaries[-1]
    phase_of = np.repeat(np.arange(len(peaks)), np.diff(boundaries))
    factors = np.zeros(total + 1)
    rates = np.asarray(peaks) / curve.lr
    truth = np.flatnonzero(on_truth)
    for span in _spans(truth, phase_of) if curve.restart else [truth]:
        factors[span] = curve.over(len(span))[:-1]
    apart = np.flatnonzero(~on_truth)
    for block in _runs(apart):
        if len(block) == 1 and block[0] and phase_of[block[0]] == phase_of[block[0] - 1]:
            factors[block] = factors[block - 1]  # the end of a phase whose ground truth fades out
            continue
        for span in _spans(block, phase_of) if curve.restart else [block]:
            factors[span] = curve.over(len(span))[:-1]
    factors[:-1] *= rates[phase_of]
    scale = 1.0
    if len(truth):
        scale = float(curve.over(len(truth))[:-1].sum() / factors[truth].sum())
        factors[truth] *= scale
    factors[-1] = factors[-2] if curve.decay == "constant" else 0.0
    of_truth = np.isin(np.arange(len(peaks)), phase_of[truth])
    return LearningRates(factors, tuple(float(p * scale) if t else float(p) for p, t in zip(peaks, of_truth, strict=True)))


def _spans(steps: npt.NDArray[np.intp], phase_of: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    """Cut steps by phase."""
    for phase in np.unique(phase_of[steps]):
        yield steps[phase_of[steps] == phase]


def _runs(steps: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    """Cut ascending steps into runs without a gap."""
    for _, run in groupby(enumerate(steps.tolist()), key=lambda pair: pair[1] - pair[0]):
        yield np.array([step for _, step in run], np.intp)
