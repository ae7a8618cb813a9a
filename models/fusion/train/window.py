"""Training metrics averaged over the steps since the last report, right under accumulation and over ranks."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.fusion.schedule import Weights
from models.fusion.train.module import FusionOutput
from models.metrics_sink import MetricsSink
from models.params.fusion import Normalise

_COMPONENTS = ("train/sft_response", "train/kl_response", "train/sft_gt", "train/kl_gt")


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the loss of one optimiser step is divided by: counts over all micro-batches and ranks.

    Attributes:
        step: Optimiser step, from 0.
        num_infer: Response tokens, end tokens included, with or without a teacher.
        num_train: Ground-truth tokens, likewise.
        weights: w_infer, w_train and β of the step.
        normalise: Whether each mode is divided by its own tokens, or both by all of them.
    """

    step: int
    num_infer: int
    num_train: int
    weights: Weights
    normalise: Normalise = "mode"

    @property
    def scale_infer(self) -> float:
        """Factor of a summed inference-mode loss."""
        return self.weights.w_infer / self._divisor(self.num_infer) if self.num_infer else 0.0

    @property
    def scale_train(self) -> float:
        """Factor of a summed training-mode loss."""
        return self.weights.w_train / self._divisor(self.num_train) if self.num_train else 0.0

    def _divisor(self, own: int) -> int:
        return own if self.normalise == "mode" else self.num_infer + self.num_train


class LossWindow:
    """Adds up micro-batches on the device, without waiting for it, and reads the sums when a report is due.

    A component (such as `train/kl_gt`) is the mean over the window's steps of its sum over the step divided by the mode's tokens
    of the step, steps without the mode left out; `train/loss` is the weighted objective.

    Attributes:
        last: The newest report without what varies from run to run; empty before the first.
    """

    def __init__(self, sink: MetricsSink, *, total_steps: int, every: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Report to `sink` every `every` optimiser steps and after the last one."""
        self._sink, self._total, self._every, self._clock = sink, total_steps, every, clock
        self.last: dict[str, float] = {}
        self._open()
        self.start_clock()

    def _open(self) -> None:
        self._sums: Tensor | None = None
        self._steps = [0, 0, 0]  # all, with responses, with ground truths
        self._grad_norm = 0.0

    def start_clock(self) -> None:
        """Begin to count tokens per second anew."""
        self._tokens, self._since = 0, self._clock()

    @torch.no_grad()
    def add(self, output: FusionOutput, totals: StepTotals, *, num_inputs: int) -> None:
        """Add one micro-batch; `num_inputs` is its input tokens without padding."""
        zero = output.loss.new_zeros(())
        parts = [output.loss]
        for mode, tokens in ((output.infer, totals.num_infer), (output.train, totals.num_train)):
            parts += [mode.sft_sum / tokens, mode.kl_sum / tokens] if mode is not None and tokens else [zero, zero]
        added = torch.stack(parts).to(torch.float32 if zero.device.type == "mps" else torch.float64)
        self._sums = added if self._sums is None else self._sums.add_(added)
        self._tokens += num_inputs

    def end_step(self, totals: StepTotals, *, lr: float, grad_norm: float) -> None:
        """Close an optimiser step that had this learning rate and gradient norm (before clipping); report if it is time."""
        for index, present in enumerate((True, totals.num_infer > 0, totals.num_train > 0)):
            self._steps[index] += present
        self._grad_norm += grad_norm
        done = totals.step + 1
        if done % self._every == 0 or done == self._total:
            self._report(done, totals.weights, lr)

    def _report(self, done: int, weights: Weights, lr: float) -> None:
        sums, tokens = self._over_ranks()
        steps, infer_steps, train_steps = self._steps
        self.last = {"train/loss": sums[0] / steps, "train/grad_norm": self._grad_norm / steps}
        for name, total, count in zip(_COMPONENTS, sums[1:], (infer_steps,) * 2 + (train_steps,) * 2, strict=True):
            if count:
                self.last[name] = total / count
        self.last |= {"train/lr": lr, "train/w_infer": weights.w_infer, "train/w_train": weights.w_train}
        seconds = max(self._clock() - self._since, 1e-9)
        self._sink.log({**self.last, "train/tokens_per_s": tokens / seconds}, step=done)
        self._sink.progress(done, self._total, unit="steps")
        self._open()
        self.start_clock()

    def _over_ranks(self) -> tuple[list[float], float]:
        """Return the five sums and the tokens, over all ranks."""
        sums = [0.0] * 5 if self._sums is None else self._sums.tolist()
        row = [*sums, float(self._tokens)]
        if dist.is_available() and dist.is_initialized():
            device = torch.device("cpu") if self._sums is None else self._sums.device
            shared = torch.tensor(row, device=device, dtype=torch.float64)
            dist.all_reduce(shared)
            row = shared.tolist()
        return row[:5], row[5]

    def state(self) -> dict[str, Any]:
        """Return the open window, JSON-ready and over all ranks (each must call it)."""
        return {"sums": self._over_ranks()[0], "steps": self._steps, "grad_norm": self._grad_norm, "last": self.last}

    def restore(self, state: Mapping[str, Any], *, main: bool, device: torch.device) -> None:
        """Go on with a window that `state` returned; only the `main` rank takes its sums, else they would count again."""
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.tensor(state["sums"] if main else [0.0] * 5, dtype=wide, device=device)
        self._steps, self._grad_norm, self.last = list(state["steps"]), state["grad_norm"], dict(state["last"])
