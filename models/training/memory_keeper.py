"""Keeps a training on a CPU from growing."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.free_memory import give_back_after


class MemoryKeeper(TrainerCallback):
    """Gives freed memory back after each step on a CPU: batches of ever other lengths leave pieces that glibc does not reuse."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give it back."""
        give_back_after(args.device.type)
