"""The progressive schedule: weights of the two losses at every optimiser step (eq. 6 and 7 of ProFuser).

Every method is a list of phases. Two budgets make methods comparable (`fusion.budget`): equal optimiser steps under one
learning-rate curve, or equal passes over the ground truth under that curve, with the phases without ground truth on top.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import ParamsError, Problem
from models.fusion.learning_rate import LearningRates, LrCurve, rates_by_steps, rates_by_truth
from models.fusion.prompt_pools import Ints, PromptPools, epoch_batch
from models.params.fusion import METHODS, Budget, FusionParams, Phase


@dataclass(frozen=True, slots=True)
class ResolvedPhase:
    """A phase with defaults filled in; the fields are those of `models.params.fusion.Phase`."""

    w_infer: float
    w_train: float
    beta: float
    epochs: float
    lr: float
    weights: Literal["constant", "linear", "cosine"] = "constant"


Schedule = tuple[ResolvedPhase, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """Loss weights of one optimiser step: w_infer · L_infer + w_train · L_train, each L_SFT + beta · KL."""

    w_infer: float
    w_train: float
    beta: float
    phase: int


def preset_weights(method: str, *, replay: float, simul_weight: float) -> tuple[tuple[float, float], ...]:
    """Return (w_infer, w_train) of every phase of a preset.

    `profuser` is eq. 7 (easy to hard, `replay` = 0.1); `reverse` and `simul` are the paper's ablations ReverseFuse and
    SimulFuse; `fusellm` is training mode only; `sft` has the same weights and β = 0.
    """
    table = {
        "sft": ((0.0, 1.0),),
        "fusellm": ((0.0, 1.0),),
        "inference_only": ((1.0, 0.0),),
        "profuser": ((1.0, 0.0), (replay, 1.0)),
        "simul": ((simul_weight, simul_weight),),
        "reverse": ((0.0, 1.0), (1.0, replay)),
    }
    return table[method]


def resolve_schedule(method: str, cfg: FusionParams) -> Schedule:
    """Return the phases of a method.

    Under `budget: ground_truth` the phases with ground truth share `fusion.epochs` in proportion to their epochs; the
    others keep theirs.

    Args:
        method: A preset, whose phases share `fusion.epochs` evenly, or a name of `fusion.schedules`, whose phases have their own.
        cfg: Default β and learning rate of phases.

    Raises:
        ParamsError: There is no such method.
    """
    if method in METHODS:
        pairs = preset_weights(method, replay=cfg.replay, simul_weight=cfg.simul_weight)
        beta = 0.0 if method == "sft" else cfg.beta
        share = cfg.epochs / len(pairs)
        phases = tuple(ResolvedPhase(w_infer, w_train, beta, share, cfg.lr) for w_infer, w_train in pairs)
    elif method in cfg.schedules:
        phases = tuple(_resolve(phase, cfg) for phase in cfg.schedules[method])
    else:
        known = ", ".join([*METHODS, *cfg.schedules])
        raise _error("The method", f"must be one of {known}", f"`{method}`", "Add it to `fusion.schedules`, or name another.")
    truth = sum(p.epochs for i, p in enumerate(phases) if has_truth(phases, i))
    if cfg.budget == "steps" or not truth:
        return phases
    stretch = cfg.epochs / truth
    return tuple(replace(p, epochs=p.epochs * stretch) if has_truth(phases, i) else p for i, p in enumerate(phases))


def has_truth(schedule: Sequence[ResolvedPhase], index: int) -> bool:
    """Return whether a phase trains on the ground truth at any step, by its own weight or the fading one of the phase before."""
    return schedule[index].w_train > 0 or _fades(schedule, index)


def has_winners(schedule: Sequence[ResolvedPhase], index: int) -> bool:
    """Return whether a phase trains on winning answers at any step."""
    phase = schedule[index]
    return phase.w_infer > 0 or (index > 0 and phase.weights != "constant" and schedule[index - 1].w_infer > 0)


def _fades(schedule: Sequence[ResolvedPhase], index: int) -> bool:
    """Return whether the ground truth of the previous phase fades out in this one, to weight 0 at its last step."""
    phase = schedule[index]
    return index > 0 and phase.weights != "constant" and phase.w_train == 0 < schedule[index - 1].w_train


def _resolve(phase: Phase, cfg: FusionParams) -> ResolvedPhase:
    return ResolvedPhase(
        w_infer=phase.w_infer,
        w_train=phase.w_train,
        beta=cfg.beta if phase.beta is None else phase.beta,
        epochs=phase.epochs,
        lr=cfg.lr if phase.lr is None else phase.lr,
        weights=phase.weights,
    )


class _Steps(NamedTuple):
    """Columns over the S steps: weights of the two modes, of which stream a step takes which batch, and which batch of winners.

    The latter is −1 where the winning answers are those of the same prompts.
    """

    w_infer: npt.NDArray[np.float64]
    w_train: npt.NDArray[np.float64]
    stream: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]
    winners: npt.NDArray[np.int64]


_EITHER, _TRAIN, _INFER = 0, 1, 2
_NO_SAMPLES = "Check the counts of `teach`, or remove the phase."


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """A schedule laid out over optimiser steps, counted from 0.

    Attributes:
        schedule: The phases.
        pools: The prompts of each mode.
        batch_size: Prompts per optimiser step, over all processes.
        boundaries: First step of each phase, then the total: phase i owns `boundaries[i]` to `boundaries[i + 1] − 1`.
        budget: The budget that determined the number of steps.
        steps: Their columns.
    """

    schedule: Schedule
    pools: PromptPools
    batch_size: int
    boundaries: tuple[int, ...]
    budget: Budget
    steps: _Steps

    @property
    def num_prompts(self) -> int:
        """Prompts of one epoch."""
        return len(self.pools.either)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole schedule."""
        return self.boundaries[-1]

    def phase_at(self, step: int) -> int:
        """Return the phase of a step; steps past the end belong to the last phase."""
        return max(i for i, first in enumerate(self.boundaries[:-1]) if i == 0 or first <= step)

    def weights_at(self, step: int) -> Weights:
        """Return the weights of a step.

        A phase with `linear` or `cosine` weights starts moving at its first step and has its own weights at its last; the
        first phase has no weights to come from, so it is constant.
        """
        index, at = self.phase_at(step), min(step, self.total_steps - 1)
        return Weights(float(self.steps.w_infer[at]), float(self.steps.w_train[at]), self.schedule[index].beta, index)

    def lr_factor(self, step: int, cfg: FusionParams) -> float:
        """Return what `fusion.lr` is multiplied by at a step (the lambda of a `LambdaLR`).

        Warm-up is linear over `warmup_ratio` of the span and reaches the peak at its last step; no step has rate 0. The span
        is the whole schedule, or one phase when `optimiser_at_switch` is `restart`. A phase's own `lr` scales its steps. Under
        `budget: ground_truth` see `rates_by_truth`.
        """
        return float(learning_rates(self, cfg).factors[min(step, self.total_steps)])

    def order_at(self, step: int, *, seed: int) -> Ints:
        """Return the prompts of a step, int64[b], b ≤ `batch_size`, each with a sample in one of the step's modes.

        Phases do not enter: where all prompts have both samples, methods of one budget see the same prompts at the same step (of
        the ground truth, if that is the budget).
        """
        stream, batch = int(self.steps.stream[step]), int(self.steps.batch[step])
        return epoch_batch(self._pool(stream), batch, batch_size=self.batch_size, seed=seed, stream=stream)

    def draws_apart(self, step: int) -> bool:
        """Say whether a step takes its winning answers from other prompts than its ground truths.

        Under `budget: ground_truth` a step of both modes does where some prompts have a winning answer alone: the ground truths
        are those of every method, the winning answers a batch of their own pool, so that all prompts are replayed.
        """
        return bool(self.steps.winners[step] >= 0)

    def winners_at(self, step: int, *, seed: int) -> Ints:
        """Return the prompts of a step's winning answers, int64[b]; those of `order_at`, unless the step draws apart."""
        batch = int(self.steps.winners[step])
        if batch < 0:
            return self.order_at(step, seed=seed)
        return epoch_batch(self._pool(_INFER), batch, batch_size=self.batch_size, seed=seed, stream=_INFER)

    def _pool(self, stream: int) -> Ints:
        if self.budget == "ground_truth" and stream == _EITHER:
            return self.pools.train
        return (self.pools.either, self.pools.train, self.pools.infer)[stream]


def learning_rates(plan: StepPlan, cfg: FusionParams) -> LearningRates:
    """Return the learning rates of a plan."""
    return _rates(plan, LrCurve.of(cfg))


@lru_cache(maxsize=8)
def _rates(plan: StepPlan, curve: LrCurve) -> LearningRates:
    peaks = [phase.lr for phase in plan.schedule]
    if plan.budget == "steps":
        return rates_by_steps(peaks, plan.boundaries, curve)
    return rates_by_truth(peaks, plan.boundaries, plan.steps.w_train > 0, curve)


def plan_steps(
    schedule: Sequence[ResolvedPhase],
    *,
    batch_size: int,
    num_prompts: int | None = None,
    pools: PromptPools | None = None,
    budget: Budget = "steps",
) -> StepPlan:
    """Lay a schedule out over optimiser steps.

    Epochs may be fractional: phases end at the step that completes their share, rounded up, counted from the beginning of the
    schedule, so that the total depends on the sum of the epochs alone. Under `steps` an epoch is as many steps as all prompts
    take, whatever part of them a phase can use; under `ground_truth` it is a pass over the phase's own prompts, and phases
    with ground truth are counted separately.

    Args:
        schedule: The phases, as `resolve_schedule` gives them for this budget.
        batch_size: Prompts per optimiser step, over all processes.
        num_prompts: Prompts that all have both samples; instead of `pools`.
        pools: The prompts of each mode.
        budget: `fusion.budget`.

    Raises:
        ParamsError: There are no prompts (of a mode that a phase trains on), or a phase is so short that it gets no step.
    """
    pools = PromptPools.whole(num_prompts or 0) if pools is None else pools
    if not len(pools.either):
        raise _error("The training split", "must have at least one prompt with signals", "empty")
    phases = tuple(schedule)
    counts = _step_counts(phases, pools, batch_size=batch_size, budget=budget)
    for index, (phase, steps) in enumerate(zip(phases, counts, strict=True)):
        if steps < 1:
            raise _error(
                f"Phase {index + 1} of {len(phases)}",
                f"must have at least one optimiser step ({len(pools.either)} prompts in batches of {batch_size})",
                f"{phase.epochs:g} epochs, none",
                "Raise `fusion.epochs` or lower `fusion.batch_size`.",
            )
    boundaries = (0, *np.cumsum(counts).tolist())
    w_infer, w_train = _weights(phases, boundaries)
    stream = _streams(w_infer > 0, w_train > 0, pools, budget=budget)
    apart = (w_infer > 0) & (w_train > 0) & (budget == "ground_truth" and bool(pools.num_infer_only))
    batch, winners = np.zeros(len(stream), np.int64), np.full(len(stream), -1)
    for kind in np.unique(stream):
        batch[stream == kind] = np.arange(np.count_nonzero(stream == kind))
    if apart.any():
        takes = (stream == _INFER) | apart
        of_infer = np.cumsum(takes) - 1
        batch[stream == _INFER], winners[apart] = of_infer[stream == _INFER], of_infer[apart]
    return StepPlan(phases, pools, batch_size, boundaries, budget, _Steps(w_infer, w_train, stream, batch, winners))


def _step_counts(schedule: Schedule, pools: PromptPools, *, batch_size: int, budget: Budget) -> list[int]:
    """Return the steps of each phase; those of one account end where the sum of its epochs so far does, rounded up."""
    counts: list[int] = []
    epochs, steps = [0.0, 0.0], [0, 0]
    for index, phase in enumerate(schedule):
        truth = has_truth(schedule, index)
        account = int(budget == "steps" or truth)
        pool = pools.either if budget == "steps" else pools.train if truth else pools.infer
        for wanted, prompts, kind in (
            (phase.w_train == 0, pools.infer, "a winning answer"),
            (phase.w_infer == 0 or (truth and budget == "ground_truth"), pools.train, "a ground truth"),
        ):
            if wanted and not len(prompts):
                raise _error(
                    f"Phase {index + 1} of {len(schedule)}", f"must have prompts with {kind}", "without any", _NO_SAMPLES
                )
        epochs[account] += phase.epochs
        end = math.ceil(epochs[account] * -(-len(pool) // batch_size) - 1e-6)
        taken, steps[account] = end - steps[account], end
        # The step at which the ground truth has faded out is not counted.
        counts.append(taken + int(budget == "ground_truth" and taken > 0 and _fades(schedule, index)))
    return counts


def _weights(schedule: Schedule, boundaries: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return w_infer[S] and w_train[S]."""
    columns: tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]] = ([], [])
    for index, (start, stop) in enumerate(pairwise(boundaries)):
        phase, before = schedule[index], schedule[max(index - 1, 0)]
        share = np.arange(1, stop - start + 1) / (stop - start)
        share = {"constant": np.ones_like(share), "linear": share, "cosine": 0.5 - 0.5 * np.cos(np.pi * share)}[phase.weights]
        pairs = ((before.w_infer, phase.w_infer), (before.w_train, phase.w_train))
        for column, (old, new) in zip(columns, pairs, strict=True):
            moved = old + share * (new - old)
            column.append(np.where(share < 1, moved, new))
    return np.concatenate(columns[0]), np.concatenate(columns[1])


def _streams(
    infer: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_], pools: PromptPools, *, budget: Budget
) -> npt.NDArray[np.int64]:
    """Return the stream of prompts that each step draws from, int64[S]; pools that are the same are one stream.

    Under `ground_truth` the steps with ground truth are one stream, so that they are the same for all methods.
    """
    if budget == "ground_truth":
        return np.where(train, _EITHER, _INFER).astype(np.int64)
    only_train = _EITHER if np.array_equal(pools.train, pools.either) else _TRAIN
    only_infer = _EITHER if np.array_equal(pools.infer, pools.either) else _INFER
    return np.where(infer & train, _EITHER, np.where(train, only_train, only_infer)).astype(np.int64)


def _error(where: str, rule: str, value: str, hint: str = "") -> ParamsError:
    return ParamsError("The schedule cannot be run", [Problem(where, rule, value, hint)])
