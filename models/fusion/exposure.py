"""How much of each mode a method sees: passes over its texts, and the learning rate spent on them.

Methods of equal optimiser steps may be far from equal here, as a decaying learning rate makes late steps count less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.fusion.prompt_pools import Ints
from models.fusion.schedule import StepPlan, has_winners, learning_rates, resolve_schedule
from models.params.fusion import FusionParams
from models.records import to_row


@dataclass(frozen=True, slots=True)
class ModeExposure:
    """Training exposure of a method to the texts of one mode.

    Attributes:
        steps: Optimiser steps in which the mode has a weight.
        passes: Texts trained on over texts there are.
        lr_sum: Σ of the learning rate over those steps in units of `fusion.lr`: as many steps at the full rate.
        weighted_lr_sum: The same, each step counted by the mode's share of w_infer + w_train.
    """

    steps: int
    passes: float
    lr_sum: float
    weighted_lr_sum: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """Training exposure of a method to each mode.

    Attributes:
        total_steps: Optimiser steps.
        extra_steps: Those of them that `budget: ground_truth` puts on top: without ground truth; 0 under `steps`.
        ground_truth: Training mode.
        winners: Inference mode.
        prompts_only: Prompts that have a winning answer alone: without a ground truth, or with one that is too long to train on.
    """

    total_steps: int
    extra_steps: int
    ground_truth: ModeExposure
    winners: ModeExposure
    prompts_only: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict; without `prompts_only` where there are none."""
        return {key: value for key, value in to_row(self).items() if key != "prompts_only" or value}


def exposure(plan: StepPlan, cfg: FusionParams) -> Exposure:
    """Return the training exposure of a plan's steps to each mode."""
    rates, (infer, train) = learning_rates(plan, cfg).factors[:-1], (plan.steps.w_infer, plan.steps.w_train)
    seen = _texts_seen(plan, seed=cfg.seed)
    truths, winners = (
        _mode(weight, infer + train, rates, seen=texts, size=len(pool))
        for weight, texts, pool in zip((train, infer), seen, (plan.pools.train, plan.pools.infer), strict=True)
    )
    extra = int(np.count_nonzero(train == 0)) if plan.budget == "ground_truth" else 0
    return Exposure(plan.total_steps, extra, truths, winners, prompts_only=plan.pools.num_infer_only)


def without_winners(methods: Sequence[str], cfg: FusionParams) -> list[str]:
    """Return the methods that never train on winning answers: prompts without a ground truth are nothing to them."""
    schedules = {method: resolve_schedule(method, cfg) for method in methods}
    return [method for method, phases in schedules.items() if not any(has_winners(phases, i) for i in range(len(phases)))]


def _mode(
    weight: npt.NDArray[np.float64], both: npt.NDArray[np.float64], rates: npt.NDArray[np.float64], *, seen: int, size: int
) -> ModeExposure:
    there = weight > 0
    return ModeExposure(
        steps=int(np.count_nonzero(there)),
        passes=seen / max(size, 1),
        lr_sum=float(rates[there].sum()),
        weighted_lr_sum=float((rates * weight / both).sum()),
    )


def _texts_seen(plan: StepPlan, *, seed: int) -> tuple[int, int]:
    """Return the number of ground truths and winning answers seen by the steps, counting repetitions."""
    train, infer = (_members(pool, plan.pools.either) for pool in (plan.pools.train, plan.pools.infer))
    truths = winners = 0
    for step in range(plan.total_steps):
        truths += int(train[plan.order_at(step, seed=seed)].sum()) if plan.steps.w_train[step] > 0 else 0
        winners += int(infer[plan.winners_at(step, seed=seed)].sum()) if plan.steps.w_infer[step] > 0 else 0
    return truths, winners


def _members(pool: Ints, of: Ints) -> npt.NDArray[np.bool_]:
    there = np.zeros(int(of[-1]) + 1, np.bool_)
    there[pool] = True
    return there
