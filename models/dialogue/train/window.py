"""Metrics of joint training averaged over the steps since the last report, right under accumulation and over processes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.dialogue.train.module import COMPONENTS, DialogueOutput, Scales
from models.dialogue.train.schedule import StepMode
from models.metrics_sink import MetricsSink


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


class DialogueWindow:
    """Adds up micro-batches on the device, without waiting for it, and reads the sums when a report is due.

    Components that only joint steps have (`objective`, `ctr`, `agreement_top1`) are means over the joint steps of the window.

    Attributes:
        last: The newest report without what varies from run to run; empty before the first.
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
        """Report to `sink` every `every` optimiser steps and after the last one.

        Args:
            sink: Where to.
            total_steps: Steps of the training.
            every: Steps between two reports.
            names: Component → name of its metric; components left out are not reported.
            clock: Seconds.
        """
        self._sink, self._total, self._every, self._names, self._clock = sink, total_steps, every, dict(names), clock
        self.last: dict[str, float] = {}
        self._open()
        self.start_clock()

    def _open(self) -> None:
        self._sums: Tensor | None = None
        self._steps, self._joint_steps = 0, 0
        self._means: dict[str, float] = {}

    def start_clock(self) -> None:
        """Begin to count tokens per second anew."""
        self._tokens, self._since = 0, self._clock()

    @torch.no_grad()
    def add(self, output: DialogueOutput, totals: DialogueTotals, *, num_tokens: int) -> None:
        """Add one micro-batch of `num_tokens` response tokens."""
        scales = torch.full_like(output.sums, totals.scales.per_turn)
        scales[COMPONENTS.index("nll")] = totals.scales.per_token
        added = torch.cat([output.loss.detach().reshape(1).float(), output.sums * scales])
        added = added.to(_widest(added.device))
        self._sums = added if self._sums is None else self._sums.add_(added)
        self._tokens += num_tokens

    def end_step(self, totals: DialogueTotals, figures: Mapping[str, float]) -> None:
        """Close an optimiser step with further figures (such as gradient norms), which are averaged; report if it is time."""
        self._steps += 1
        self._joint_steps += totals.mode.joint
        for name, value in figures.items():
            self._means[name] = self._means.get(name, 0.0) + value
        done = totals.step + 1
        if done % self._every == 0 or done == self._total:
            self._report(done)

    def _report(self, done: int) -> None:
        (loss, *sums), tokens = self._over_ranks()
        self.last = {"train/loss": loss / self._steps}
        for component, total in zip(COMPONENTS, sums, strict=True):
            always = component in ("nll", "q_max", "score_gap")
            steps = self._steps if always else self._joint_steps
            if component in self._names and steps:
                self.last[self._names[component]] = total / steps
        self.last |= {name: total / self._steps for name, total in self._means.items()}
        seconds = max(self._clock() - self._since, 1e-9)
        self._sink.log({**self.last, "train/tokens_per_s": tokens / seconds}, step=done)
        self._sink.progress(done, self._total, unit="steps")
        self._open()
        self.start_clock()

    def _over_ranks(self) -> tuple[list[float], float]:
        """Return loss and component sums, and the tokens, over all processes."""
        sums = [0.0] * (1 + len(COMPONENTS)) if self._sums is None else self._sums.tolist()
        row = [*sums, float(self._tokens)]
        if dist.is_available() and dist.is_initialized():
            device = torch.device("cpu") if self._sums is None else self._sums.device
            shared = torch.tensor(row, device=device, dtype=torch.float64)
            dist.all_reduce(shared)
            row = shared.tolist()
        return row[:-1], row[-1]

    def state(self) -> dict[str, Any]:
        """Return the open window, JSON-ready and over all processes (each must call it)."""
        return {
            "sums": self._over_ranks()[0],
            "steps": self._steps,
            "joint_steps": self._joint_steps,
            "means": self._means,
            "last": self.last,
        }

    def restore(self, state: Mapping[str, Any], *, main: bool, device: torch.device) -> None:
        """Go on with a window that `state` returned; only the `main` process takes its sums, else they would count again."""
        sums = state["sums"] if main else [0.0] * len(state["sums"])
        self._sums = torch.tensor(sums, dtype=_widest(device), device=device)
        self._steps, self._joint_steps = state["steps"], state["joint_steps"]
        self._means, self.last = dict(state["means"]), dict(state["last"])


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
