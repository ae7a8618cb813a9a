"""An evaluation during joint training: score, report, choose; and its state in checkpoints."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import NumericsError
from models.files import read_record
from models.metrics_sink import MetricsSink
from models.training.dialogue_module import DialogueModule
from models.training.dialogue_selection import Selection
from models.training.dialogue_validation import DialogueValidation
from models.training.resumable_trainer import STATE
from models.training.run_guard import wait_for_all

logger = logging.getLogger(__name__)


class ValidationStep:
    """Runs on the main process while the others wait.

    Attributes:
        start: Metrics after 0 steps: of the warm-started retriever and the generator as it came.
    """

    def __init__(
        self, validation: DialogueValidation, selection: Selection, module: DialogueModule, *, sink: MetricsSink, main: bool
    ) -> None:
        """Score `module` by `validation`, tell `sink`, and keep the best in `selection`."""
        self._validation, self._selection, self._module = validation, selection, module
        self._sink, self._main = sink, main
        self.start: dict[str, float] = {}

    def run(self, done: int) -> None:
        """Score the models after `done` steps on the module's index, which must be fresh; report and choose.

        Raises:
            NumericsError: A metric is not finite.
        """
        if self._main:
            module = self._module
            temperature = float(module.temperature.detach())
            metrics = self._validation.run(module.retriever, module.generator, module.index(), temperature=temperature).metrics
            _refuse_not_finite(metrics, done)
            self._sink.log(metrics, step=done)
            self.start = metrics if done == 0 else self.start
            self._selection.consider(done, metrics, self._save)
        wait_for_all()

    def _save(self, kind: str, folder: Path) -> None:
        self._module.retriever.save(folder / "retriever")
        if kind == "best_generator":
            self._module.generator.save(folder / "generator")

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold, JSON-ready."""
        return {"selection": self._selection.state(), "start": self.start}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with `state`."""
        self._selection.restore(state["selection"])
        self.start = dict(state["start"])

    def prune(self, resume_dir: Path) -> None:
        """Delete models that neither this run nor a checkpoint in `resume_dir` may still need."""
        kept = [path.parent for path in resume_dir.glob(f"checkpoint-*/{STATE}")]
        self._selection.prune(chosen_in(folder) for folder in kept)


def chosen_in(checkpoint: Path) -> dict[str, Any]:
    """Return what was chosen when a checkpoint was written (see `Selection.state`)."""
    state = read_record(checkpoint / STATE) or {}
    chosen: dict[str, Any] = state.get("selection", {})
    return chosen


def _refuse_not_finite(metrics: Mapping[str, float], done: int) -> None:
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        raise NumericsError(
            f"After training step {done} validation metrics must be finite, but {', '.join(bad)} are not. "
            "Lower `dialogue.joint.generator_lr` or `dialogue.joint.retriever_lr`."
        )
