"""The losses of fusion training by mode, and what the loss of a step is divided by."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.fusion.schedule import Weights
from models.fusion.train.module import FusionOutput
from models.metrics_sink import MetricsSink
from models.params.fusion import Normalise
from models.training.window import Component, StepWindow

_INFER, _TRAIN = "infer", "train"
_COMPONENTS = (
    Component("train/loss"),
    Component("train/sft_response", _INFER),
    Component("train/kl_response", _INFER),
    Component("train/sft_gt", _TRAIN),
    Component("train/kl_gt", _TRAIN),
)


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the loss of one optimiser step is divided by: counts over all micro-batches and ranks.

    Attributes:
        step: Optimiser step, from 0.
        num_infer: Response tokens, end tokens included, with or without a teacher.
        num_train: The same for ground-truth tokens.
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


class LossWindow(StepWindow):
    """A `StepWindow` over the losses of both modes.

    A component (such as `train/kl_gt`) is the mean over the window's steps of its sum over the step divided by the mode's tokens
    of the step, steps without the mode left out; `train/loss` is the weighted objective.
    """

    def __init__(self, sink: MetricsSink, *, total_steps: int, every: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sink, _COMPONENTS, total_steps=total_steps, every=every, clock=clock)

    @torch.no_grad()
    def add(self, output: FusionOutput, totals: StepTotals, *, num_inputs: int) -> None:
        """Add one micro-batch; `num_inputs` is its input tokens without padding."""
        zero = output.loss.new_zeros(())
        parts = [output.loss]
        for mode, tokens in ((output.infer, totals.num_infer), (output.train, totals.num_train)):
            parts += [mode.sft_sum / tokens, mode.kl_sum / tokens] if mode is not None and tokens else [zero, zero]
        self.add_sums(torch.stack(parts), num_tokens=num_inputs)

    def end_step(self, totals: StepTotals, *, lr: float, grad_norm: float) -> None:
        """Close an optimiser step that had this learning rate and gradient norm (before clipping); report if it is time."""
        weights = totals.weights
        self.close_step(
            totals.step,
            kinds={_INFER: totals.num_infer > 0, _TRAIN: totals.num_train > 0},
            figures={"train/grad_norm": grad_norm},
            newest={"train/lr": lr, "train/w_infer": weights.w_infer, "train/w_train": weights.w_train},
        )
