"""Training metrics averaged over the optimiser steps since the last report, right under accumulation and over processes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.metrics_sink import MetricsSink

ALL = "all"


@dataclass(frozen=True, slots=True)
class Component:
    """A sum over micro-batches that is reported as a mean over optimiser steps.

    Attributes:
        metric: Name in the report; None = not reported.
        steps: Kind of step it is a mean over: `ALL`, or one that only some steps are of.
    """

    metric: str | None
    steps: str = ALL


class StepWindow:
    """Adds up micro-batches on the device without waiting for it, and reads the sums when a report is due.

    Subclasses turn their batches into the sums, one for each component, already divided by what the whole step is divided by.

    Attributes:
        last: The newest report, without what varies from run to run; empty before the first.
    """

    def __init__(
        self,
        sink: MetricsSink,
        components: Sequence[Component],
        *,
        total_steps: int,
        every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report to `sink` every `every` optimiser steps, and after the last of `total_steps`; `clock` gives seconds."""
        self._sink, self._components = sink, tuple(components)
        self._total, self._every, self._clock = total_steps, every, clock
        self.last: dict[str, float] = {}
        self._open()
        self.start_clock()

    def _open(self) -> None:
        self._sums: Tensor | None = None
        self._steps: dict[str, int] = {}
        self._figures: dict[str, float] = {}

    def start_clock(self) -> None:
        """Count tokens per second from now on."""
        self._tokens, self._since = 0, self._clock()

    @torch.no_grad()
    def add_sums(self, sums: Tensor, *, num_tokens: int) -> None:
        """Add the sums of a micro-batch of `num_tokens` tokens, one for each component."""
        added = sums.to(_widest(sums.device))
        self._sums = added if self._sums is None else self._sums.add_(added)
        self._tokens += num_tokens

    def close_step(
        self, step: int, *, kinds: Mapping[str, bool], figures: Mapping[str, float], newest: Mapping[str, float]
    ) -> None:
        """Close an optimiser step; report if it is time.

        Args:
            step: From 0.
            kinds: Kinds of step besides `ALL`, and whether this step is of them.
            figures: Reported as means over the window's steps, such as gradient norms.
            newest: Reported as they are at the window's last step, such as learning rates.
        """
        for kind, of_this_kind in {ALL: True, **kinds}.items():
            self._steps[kind] = self._steps.get(kind, 0) + of_this_kind
        for name, value in figures.items():
            self._figures[name] = self._figures.get(name, 0.0) + value
        done = step + 1
        if done % self._every == 0 or done == self._total:
            self._report(done, newest)

    def _report(self, done: int, newest: Mapping[str, float]) -> None:
        sums, tokens = self._over_ranks()
        self.last = {}
        for component, total in zip(self._components, sums, strict=True):
            count = self._steps.get(component.steps, 0)
            if component.metric is not None and count:
                self.last[component.metric] = total / count
        self.last |= {name: total / self._steps[ALL] for name, total in self._figures.items()} | dict(newest)
        seconds = max(self._clock() - self._since, 1e-9)
        self._sink.log({**self.last, "train/tokens_per_s": tokens / seconds}, step=done)
        self._sink.progress(done, self._total, unit="steps")
        self._open()
        self.start_clock()

    def _over_ranks(self) -> tuple[list[float], float]:
        """Return the sums and the number of tokens, over all processes."""
        sums = [0.0] * len(self._components) if self._sums is None else self._sums.tolist()
        row = [*sums, float(self._tokens)]
        if dist.is_available() and dist.is_initialized():
            device = torch.device("cpu") if self._sums is None else self._sums.device
            shared = torch.tensor(row, device=device, dtype=torch.float64)
            dist.all_reduce(shared)
            row = shared.tolist()
        return row[:-1], row[-1]

    def state(self) -> dict[str, Any]:
        """Return the open window, JSON-ready and over all processes (each must call it)."""
        return {"sums": self._over_ranks()[0], "steps": self._steps, "figures": self._figures, "last": self.last}

    def restore(self, state: Mapping[str, Any], *, main: bool, device: torch.device) -> None:
        """Continue the window of `state`; only the `main` process takes its sums, or they would count once per process."""
        sums = state["sums"] if main else [0.0] * len(state["sums"])
        self._sums = torch.tensor(sums, dtype=_widest(device), device=device)
        self._steps, self._figures, self.last = dict(state["steps"]), dict(state["figures"]), dict(state["last"])


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
