"""The schedule of a joint training: what each step trains, at which rate, and when the index is refreshed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.params.dialogue import JointParams
from models.training.learning_rate import rate_curve


@dataclass(frozen=True, slots=True)
class StepMode:
    """What one optimiser step trains.

    Attributes:
        joint: Whether the retriever's objective and the contrastive loss are part of the loss; else the NLL alone.
        retriever: Whether the retriever gets a gradient.
    """

    joint: bool
    retriever: bool


class DialogueSchedule:
    """The steps of a training: `generator_steps` of the generator alone, then `steps` of both.

    Steps are counted from 0 over both parts; `done` is the number of finished ones. `refresh.until_step` and
    `refresh.every_steps` count joint steps.

    Attributes:
        cfg: The section `dialogue.joint`.
        total_steps: All optimiser steps.
        trains_retriever: Whether any step does.
    """

    def __init__(self, cfg: JointParams) -> None:
        self.cfg = cfg
        self.total_steps = cfg.generator_steps + cfg.steps
        until = cfg.refresh.until_step
        self._retriever_steps = cfg.steps if until is None else min(until, cfg.steps)
        self.trains_retriever = cfg.retriever_lr > 0 and cfg.beta > 0 and self._retriever_steps > 0

    def mode_at(self, step: int) -> StepMode:
        """Return what a step trains."""
        local = step - self.cfg.generator_steps
        return StepMode(joint=local >= 0, retriever=self.trains_retriever and 0 <= local < self._retriever_steps)

    def generator_factor(self, step: int) -> float:
        """Return what `generator_lr` is multiplied by at a step: linear warm-up and decay over all steps."""
        return self._linear(step, self.total_steps)

    def retriever_factor(self, step: int) -> float:
        """Return what `retriever_lr` is multiplied by at a step: linear over the steps that train it, 0 elsewhere."""
        return self._linear(step - self.cfg.generator_steps, self._retriever_steps) if self.mode_at(step).retriever else 0.0

    def refresh_due(self, done: int) -> bool:
        """Return whether `refresh` asks for a new index after `done` steps (evaluations and checkpoints refresh it as well)."""
        local = done - self.cfg.generator_steps
        return local > 0 and (local % self.cfg.refresh.every_steps == 0 or local == self._retriever_steps)

    def evaluation_due(self, done: int) -> bool:
        """Return whether the validation split is scored after `done` steps; it always is after the last."""
        return done % self.cfg.every_evaluation == 0 or done == self.total_steps

    def checkpoint_due(self, done: int) -> bool:
        """Return whether a checkpoint is written after `done` steps; after the last, the result is written instead."""
        return done % self.cfg.every_checkpoint == 0 and done < self.total_steps

    def _linear(self, step: int, total: int) -> float:
        return float(rate_curve(total, warmup_ratio=self.cfg.warmup_ratio, decay="linear")[step])


def turns_at(step: int, *, num_turns: int, batch_size: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the turns of a step, int64[batch_size].

    Permutations of all turns, one an epoch and seeded by (seed, epoch), follow each other; steps are cut from them across
    their boundaries, so that all steps have the same size and every turn occurs equally often.
    """
    first = step * batch_size
    parts, have = [], 0
    while have < batch_size:
        epoch, place = divmod(first + have, num_turns)
        part = _epoch_order(num_turns, seed=seed, epoch=epoch)[place : place + batch_size - have]
        parts.append(part)
        have += len(part)
    return np.concatenate(parts).astype(np.int64)


@lru_cache(maxsize=2)
def _epoch_order(num_turns: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of an epoch; a step may read the end of one and the beginning of the next."""
    order = np.random.default_rng([seed, epoch]).permutation(num_turns)
    order.flags.writeable = False
    return order
