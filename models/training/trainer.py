"""Hugging Face's Trainer with atomic safetensors checkpoints; on a CPU it returns freed memory to the system."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.errors import ArtifactError
from models.memory import give_back_after
from models.training.checkpoints import CheckpointFolder, write_json

WEIGHTS = "model.safetensors"
STATE = "state.json"


class ResumableTrainer(Trainer):
    """A Trainer over a `CheckpointFolder`; subclasses say what else a checkpoint holds.

    Attributes:
        checkpoints: Set by the subclass before Trainer's own set-up; `args.output_dir` must be its `writing`.
    """

    checkpoints: CheckpointFolder

    def extra_state(self) -> dict[str, Any]:
        """Return further state, JSON-ready; called by every process."""
        return {}

    def restore_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what `extra_state` returned."""

    def resume(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        if checkpoint is not None:
            self.restore_extra_state(json.loads((checkpoint / STATE).read_text(encoding="utf-8")))
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write Trainer's checkpoint aside, with the further state, and rename it when all processes are done."""
        step, main = int(self.state.global_step), bool(self.args.should_save)
        if main:
            shutil.rmtree(self.checkpoints.writing, ignore_errors=True)
        self.wait()
        super()._save_checkpoint(model, trial)
        state = self.extra_state()
        if main:
            write_json(self.checkpoints.writing / f"checkpoint-{step}" / STATE, state)
        self.wait()
        if main:
            self.checkpoints.commit(step)
        self.wait()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.args.world_size > 1:
            dist.barrier()

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nothing reads Trainer's count."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what is trained to a checkpoint."""
        if self.args.should_save and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(self._trained(), Path(output_dir) / WEIGHTS, metadata={"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state, path = self._trained(), Path(resume_from_checkpoint) / WEIGHTS
        stored = load_file(path)
        if stored.keys() != state.keys():
            different = sorted(stored.keys() ^ state.keys())[:5]
            raise ArtifactError(f"`{path}` must hold the trained weights of this model, but differs in {different}. Delete it.")
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(stored[name])

    def _trained(self) -> dict[str, Tensor]:
        """Return what training changes, tied weights once: trainable parameters, and buffers that are part of the model."""
        module: Any = self.model
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        ours = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        buffers = {name: tensor for name, tensor in module.state_dict().items() if name not in ours}
        return {name: tensor.detach().contiguous() for name, tensor in (parameters | buffers).items()}


class MemoryKeeper(TrainerCallback):
    """Gives freed memory back after each step on a CPU: batches of ever other lengths leave pieces that glibc does not reuse."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give it back."""
        give_back_after(args.device.type)
