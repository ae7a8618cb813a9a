"""The losses of joint training, and what the sums of a step are multiplied by."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from models.dialogue.train.module import COMPONENTS, DialogueOutput, Scales
from models.dialogue.train.schedule import StepMode
from models.metrics_sink import MetricsSink
from models.training.window import ALL, Component, StepWindow

_JOINT = "joint"
_IN_EVERY_STEP = ("nll", "q_max", "score_gap")


@dataclass(frozen=True, slots=True)
class DialogueTotals:
    """One optimiser step over all micro-batches and processes.

    Attributes:
        step: From 0.
        num_tokens: Response tokens.
        num_turns: Turns.
        mode: What it trains.
    """

    step: int
    num_tokens: int
    num_turns: int
    mode: StepMode

    @property
    def scales(self) -> Scales:
        """What sums are multiplied by."""
        return Scales(1 / max(self.num_tokens, 1), 1 / max(self.num_turns, 1))


class DialogueWindow(StepWindow):
    """A `StepWindow` over the components of joint training.

    Components that only joint steps have (`objective`, `ctr`, `agreement_top1`) are means over the joint steps of the window.
    """

    def __init__(
        self,
        sink: MetricsSink,
        *,
        total_steps: int,
        every: int,
        names: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """See `StepWindow`; `names` gives the metric of each component, components left out are not reported."""
        parts = [Component(names.get(name), ALL if name in _IN_EVERY_STEP else _JOINT) for name in COMPONENTS]
        super().__init__(sink, [Component("train/loss"), *parts], total_steps=total_steps, every=every, clock=clock)

    @torch.no_grad()
    def add(self, output: DialogueOutput, totals: DialogueTotals, *, num_tokens: int) -> None:
        """Add one micro-batch of `num_tokens` response tokens."""
        scales = torch.full_like(output.sums, totals.scales.per_turn)
        scales[COMPONENTS.index("nll")] = totals.scales.per_token
        self.add_sums(torch.cat([output.loss.detach().reshape(1).float(), output.sums * scales]), num_tokens=num_tokens)

    def end_step(self, totals: DialogueTotals, figures: Mapping[str, float]) -> None:
        """Close an optimiser step with further figures (such as gradient norms), which are averaged; report if it is time."""
        self.close_step(totals.step, kinds={_JOINT: totals.mode.joint}, figures=figures, newest={})
