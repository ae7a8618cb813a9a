"""The one seam between computing code and the outside world: metrics over steps, and progress."""

from collections.abc import Mapping
from typing import Protocol


class MetricsSink(Protocol):
    """Receiver of metrics and progress of long computations; implemented over MLflow, Prefect and a progress bar in tasks/."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record `metrics` (name with prefix, such as `train/loss`) at optimiser step `step`."""

    def progress(self, done: int, total: int, *, unit: str) -> None:
        """Say that `done` of `total` units (samples, tokens, steps) are finished."""


class NullSink:
    """Drops everything: ranks above 0, and tests."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None: ...

    def progress(self, done: int, total: int, *, unit: str) -> None: ...
