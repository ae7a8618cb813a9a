"""The progressive schedule: which of the two losses counts how much at which optimiser step (eq. 6 and 7 of ProFuser).

Every method is a list of phases. The presets take the same `fusion.epochs`, so the same number of optimiser steps under the same
learning-rate curve, and the same prompts in the same order: they differ in weights alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import ParamsError, Problem
from models.params.fusion import METHODS, FusionParams, Phase


@dataclass(frozen=True, slots=True)
class ResolvedPhase:
    """A phase with nothing left open; the fields are those of `models.params.fusion.Phase`."""

    w_infer: float
    w_train: float
    beta: float
    epochs: float
    lr: float
    weights: Literal["constant", "linear", "cosine"] = "constant"


Schedule = tuple[ResolvedPhase, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """What one optimiser step trains on: w_infer · L_infer + w_train · L_train, each L_SFT + beta · KL."""

    w_infer: float
    w_train: float
    beta: float
    phase: int


def preset_weights(method: str, *, replay: float, simul_weight: float) -> tuple[tuple[float, float], ...]:
    """Return (w_infer, w_train) of every phase of a preset.

    `profuser` is eq. 7 (easy to hard, `replay` = 0.1); `reverse` and `simul` are the paper's ablations ReverseFuse and
    SimulFuse; `fusellm` is the ancestors' training mode; `sft` has the same weights and β = 0.
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

    Args:
        method: A preset, whose phases share `fusion.epochs` evenly, or `custom` for `fusion.schedule`, whose phases bring
            their own epochs.
        cfg: β and learning rate where a phase names none.

    Raises:
        ParamsError: The method is unknown, or `custom` without a schedule.
    """
    if method == "custom":
        if not cfg.schedule:
            raise _error("`fusion.schedule`", "must have at least one phase for the method `custom`", "empty")
        return tuple(_resolve(phase, cfg) for phase in cfg.schedule)
    if method not in METHODS:
        raise _error("`methods`", f"must be from {[*METHODS, 'custom']}", repr(method))
    pairs = preset_weights(method, replay=cfg.replay, simul_weight=cfg.simul_weight)
    beta = 0.0 if method == "sft" else cfg.beta
    share = cfg.epochs / len(pairs)
    return tuple(ResolvedPhase(w_infer, w_train, beta, share, cfg.lr) for w_infer, w_train in pairs)


def _resolve(phase: Phase, cfg: FusionParams) -> ResolvedPhase:
    return ResolvedPhase(
        w_infer=phase.w_infer,
        w_train=phase.w_train,
        beta=cfg.beta if phase.beta is None else phase.beta,
        epochs=phase.epochs,
        lr=cfg.lr if phase.lr is None else phase.lr,
        weights=phase.weights,
    )


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A schedule laid out over optimiser steps, counted from 0.

    Attributes:
        schedule: The phases.
        num_prompts: Prompts of one epoch.
        batch_size: Prompts per optimiser step, over all processes.
        boundaries: First step of each phase, then the total: phase i owns `boundaries[i]` to `boundaries[i + 1] − 1`.
    """

    schedule: Schedule
    num_prompts: int
    batch_size: int
    boundaries: tuple[int, ...]

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole schedule."""
        return self.boundaries[-1]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that see every prompt once; the last of them may hold fewer than `batch_size` prompts."""
        return -(-self.num_prompts // self.batch_size)

    def phase_at(self, step: int) -> int:
        """Return the phase of a step; steps past the end belong to the last phase."""
        return max(i for i, first in enumerate(self.boundaries[:-1]) if i == 0 or first <= step)

    def weights_at(self, step: int) -> Weights:
        """Return the weights of a step.

        A phase with `linear` or `cosine` weights starts moving at its first step and has its own weights at its last; the
        first phase has no weights to come from, so it is constant.
        """
        index = self.phase_at(step)
        phase = self.schedule[index]
        before = self.schedule[max(index - 1, 0)]
        start, stop = self.boundaries[index : index + 2]
        share = min((step - start + 1) / (stop - start), 1.0)
        share = {"constant": 1.0, "linear": share, "cosine": 0.5 - 0.5 * math.cos(math.pi * share)}[phase.weights]
        return Weights(
            w_infer=before.w_infer + share * (phase.w_infer - before.w_infer) if share < 1 else phase.w_infer,
            w_train=before.w_train + share * (phase.w_train - before.w_train) if share < 1 else phase.w_train,
            beta=phase.beta,
            phase=index,
        )

    def lr_factor(self, step: int, cfg: FusionParams) -> float:
        """Return what `fusion.lr` is multiplied by at a step (the lambda of a `LambdaLR`).

        Warm-up is linear over `warmup_ratio` of the span and reaches the peak at its last step; no step has rate 0. The span
        is the whole schedule, or one phase when `optimiser_at_switch` is `restart`. A phase's own `lr` scales its steps.
        """
        index = self.phase_at(step)
        restart = cfg.optimiser_at_switch == "restart"
        start, stop = self.boundaries[index : index + 2] if restart else (0, self.total_steps)
        warmup = math.ceil(cfg.warmup_ratio * (stop - start) - 1e-9)
        done = min(step, stop) - start
        peak = self.schedule[index].lr / cfg.lr
        if done < warmup:
            return peak * (done + 1) / warmup
        progress = (done - warmup) / max(stop - start - warmup, 1)
        decay = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress)}
        return peak * decay[cfg.lr_schedule]

    def order_at(self, step: int, *, seed: int) -> npt.NDArray[np.int64]:
        """Return the prompts of a step, int64[b], b ≤ `batch_size`.

        Every epoch is a permutation of its own, seeded by (seed, epoch) and cut into batches; only the last batch of an epoch
        may be smaller. Phases do not enter: all methods see the same prompts at the same step.
        """
        epoch, batch = divmod(step, self.steps_per_epoch)
        return _permutation(self.num_prompts, seed, epoch)[batch * self.batch_size : (batch + 1) * self.batch_size].copy()


@lru_cache(maxsize=2)
def _permutation(num_prompts: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_prompts)


def plan_steps(schedule: Sequence[ResolvedPhase], *, num_prompts: int, batch_size: int) -> StepPlan:
    """Lay a schedule out over optimiser steps.

    Epochs may be fractional: phases end at the step that completes their share of the prompts, rounded up, counted from the
    beginning of the schedule, so that the total depends on the sum of the epochs alone.

    Raises:
        ParamsError: There are no prompts, or a phase is so short that it gets no step.
    """
    if num_prompts < 1:
        raise _error("The training split", "must have at least one prompt with signals", "empty")
    per_epoch = -(-num_prompts // batch_size)
    ends = [math.ceil(sum(p.epochs for p in schedule[: i + 1]) * per_epoch - 1e-6) for i in range(len(schedule))]
    boundaries = (0, *ends)
    for index, phase in enumerate(schedule):
        if boundaries[index] >= boundaries[index + 1]:
            raise _error(
                f"Phase {index + 1} of {len(schedule)}",
                f"must have at least one optimiser step ({num_prompts} prompts in batches of {batch_size})",
                f"{phase.epochs:g} epochs, none",
                "Raise `fusion.epochs` or lower `fusion.batch_size`.",
            )
    return StepPlan(tuple(schedule), num_prompts, batch_size, boundaries)


def _error(where: str, rule: str, value: str, hint: str = "") -> ParamsError:
    return ParamsError("The schedule cannot be run", [Problem(where, rule, value, hint)])
