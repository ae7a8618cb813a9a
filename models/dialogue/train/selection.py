"""Model selection during joint training: evaluate, report, keep the best retriever and the best generator on validation."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.dialogue.train.module import DialogueModule
from models.dialogue.train.validation import DialogueValidation
from models.errors import NumericsError
from models.files import read_record, replacing_folder
from models.metrics_sink import MetricsSink
from models.records import from_row, to_row
from models.training.checkpoints import discard, is_whole, seal
from models.training.guard import wait_for_all
from models.training.trainer import STATE

logger = logging.getLogger(__name__)

KINDS = ("best_generator", "best_retriever")
SaveModels = Callable[[str, Path], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen model: after how many steps, and all its validation metrics."""

    step: int
    metrics: Mapping[str, float]


class Selection:
    """Keeps the models of the best evaluations under a folder, one for each kind and step.

    The best generator has the highest F1 of entity values, then the lowest NLL. The best retriever has the highest recall at K
    by value, then at 1 (by id where no turn has gold values). Of equals the earliest is kept. Step 0 is the warm start
    itself: a training that made things worse is never chosen.
    """

    def __init__(self, folder: Path, *, num_retrieved: int) -> None:
        """Keep models under `folder`; nothing is chosen yet."""
        self._folder, self._k = folder, num_retrieved
        self.chosen: dict[str, Chosen] = {}

    def consider(self, step: int, metrics: Mapping[str, float], save: SaveModels) -> list[str]:
        """Keep the models of an evaluation for every kind in which it is the best; return those kinds.

        Args:
            step: Finished steps.
            metrics: Of `DialogueValidation`.
            save: Called with the kind and an empty folder.
        """
        better = [k for k in KINDS if k not in self.chosen or self._key(k, metrics) > self._key(k, self.chosen[k].metrics)]
        for kind in better:
            with replacing_folder(self.folder(kind, step)) as place:
                save(kind, place)
            seal(self.folder(kind, step))
            self.chosen[kind] = Chosen(step, dict(metrics))
        if better:
            logger.info("Step %d is the new %s.", step, " and ".join(k.replace("_", " ") for k in better))
        return better

    def _key(self, kind: str, metrics: Mapping[str, float]) -> tuple[float, ...]:
        if kind == "best_generator":
            return metrics.get("valid/value_f1", 0.0), -metrics.get("valid/nll", 0.0)
        by = "value" if f"valid/recall@{self._k}_value" in metrics else "id"
        return metrics.get(f"valid/recall@{self._k}_{by}", 0.0), metrics.get(f"valid/recall@1_{by}", 0.0)

    def folder(self, kind: str, step: int | None = None) -> Path:
        """Return the folder of the models of a kind, chosen after `step` (default: of those chosen now)."""
        return self._folder / f"{kind}-{self.chosen[kind].step if step is None else step}"

    def state(self) -> dict[str, Any]:
        """Return what is chosen, JSON-ready."""
        return {kind: to_row(chosen) for kind, chosen in self.chosen.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.chosen = {kind: from_row(Chosen, row) for kind, row in state.items()}

    def missing(self, state: Mapping[str, Any]) -> list[str]:
        """Return the names of a state's folders that are missing or were altered."""
        folders = [self.folder(kind, row["step"]) for kind, row in state.items()]
        return [folder.name for folder in folders if not is_whole(folder)]

    def prune(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Delete the models that are neither chosen now nor in one of the states (those of the checkpoints)."""
        kept = {self.folder(kind, row["step"]) for state in [self.state(), *states] for kind, row in state.items()}
        for kind in KINDS:
            for folder in self._folder.glob(f"{kind}-*"):
                if folder.is_dir() and folder not in kept:
                    discard(folder)


class ValidationStep:
    """Runs on the main process while the others wait.

    Attributes:
        start: Metrics after 0 steps: of the warm-started retriever and the generator before training.
    """

    def __init__(
        self, validation: DialogueValidation, selection: Selection, module: DialogueModule, *, sink: MetricsSink, main: bool
    ) -> None:
        """Score `module` by `validation`, log to `sink`, and keep the best in `selection`; only if this is the `main` process."""
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
        """Return what is chosen and the metrics of the start, JSON-ready, for a checkpoint."""
        return {"selection": self._selection.state(), "start": self.start}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
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
