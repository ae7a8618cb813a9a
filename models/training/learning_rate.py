"""Learning-rate curves of all trainings: linear warm-up, then decay, as factors of a peak rate.

No curve here has a step at rate 0. transformers' schedules with warm-up start with one, which computes a step for nothing, so
they serve only where their warm-up can be shifted by a step without moving the decay: `cosine_schedule`. For `rate_curve` and
`linear_factor` the shift would also move the step at which the decay starts.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["cosine", "linear", "constant"]

_FLOOR = 0.05


def warmup_steps(ratio: float, num_steps: int) -> int:
    """Return the steps of a warm-up that takes `ratio` of `num_steps`, rounded up."""
    return math.ceil(ratio * num_steps - 1e-9)


@lru_cache(maxsize=64)
def rate_curve(num_steps: int, *, warmup_ratio: float, decay: Decay) -> npt.NDArray[np.float64]:
    """Return the factor at each step and after the last, float64[num_steps + 1], read-only, peak 1.

    Warm-up takes `warmup_steps` and reaches the peak at the last of them; so is the step after it. The last entry
    is what the decay comes down to: 0, or 1 under `constant`.
    """
    done = np.arange(num_steps + 1)
    warmup = warmup_steps(warmup_ratio, num_steps)
    progress = np.maximum(done - warmup, 0) / max(num_steps - warmup, 1)
    shape = {"constant": np.ones(num_steps + 1), "linear": 1 - progress, "cosine": 0.5 + 0.5 * np.cos(np.pi * progress)}
    curve = np.where(done < warmup, (done + 1) / max(warmup, 1), shape[decay])
    curve.flags.writeable = False
    return curve


def linear_factor(step: int, *, num_steps: int, warmup: int) -> float:
    """Return the factor at a step, from 0: linear warm-up over `warmup` steps, then linear decay to 0 at `num_steps`.

    The decay equals that of transformers' `get_linear_schedule_with_warmup` bit for bit. `rate_curve` has the same shape but
    rounds the last bit differently; encoders trained earlier depend on this rounding.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (num_steps - step) / max(1, num_steps - warmup)


def cosine_schedule(optimiser: "Optimizer", *, num_steps: int, warmup: int) -> "LambdaLR":
    """Set the rate of the first step, and return the schedule that sets the next at every `step()`.

    At step s, counted from 0, the optimiser's own rate is multiplied by (s + 1) / (warmup + 1) during warm-up; then by a cosine
    from 1 down to 0.05 at `num_steps`. This is transformers' schedule with a floor, without its first step, whose rate is 0.
    """
    from transformers import get_cosine_with_min_lr_schedule_with_warmup

    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
    schedule: LambdaLR = get_cosine_with_min_lr_schedule_with_warmup(
        optimiser, warmup + 1, num_steps + 1, min_lr_rate=_FLOOR, last_epoch=0
    )
    return schedule
