"""What happens at fixed points of a training: checkpoints by steps and minutes, the switch between phases."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.params.fusion import CheckpointParams


class CheckpointClock(TrainerCallback):
    """Asks for a checkpoint every so many steps or minutes, whichever comes first; the last step ends in a model instead.

    Attributes:
        due: Set by the trainer when the minutes have passed, on all ranks at the same step.
    """

    def __init__(self, params: CheckpointParams, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting now."""
        self._every_steps, self._every_seconds = params.every_steps, 60 * params.every_minutes
        self._clock = clock
        self._last = clock()
        self.due = False

    def minutes_passed(self) -> bool:
        """Say whether this process's clock asks for a checkpoint."""
        return self._clock() - self._last >= self._every_seconds

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint if one is due."""
        if (self.due or state.global_step % self._every_steps == 0) and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start counting anew."""
        self._last, self.due = self._clock(), False


class PhaseSwitch(TrainerCallback):
    """Between two phases: hands the model over to be saved and, if asked, forgets the optimiser's moments.

    It acts at the end of the last step of a phase, before the checkpoint of that step is written: a run resumed from it goes on
    with the next phase.
    """

    def __init__(self, ends: Mapping[int, int], *, save_phase: Callable[[int], object], restart_optimiser: bool) -> None:
        """Take the steps (done) at which phases end, with their numbers from 1; the end of the last phase is none of them."""
        self._ends = dict(ends)
        self._save_phase = save_phase
        self._restart = restart_optimiser

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Act if a phase has ended."""
        phase = self._ends.get(state.global_step)
        if phase is None:
            return
        self._save_phase(phase)
        if self._restart:
            optimizer.state.clear()
