"""Hugging Face's Trainer as both wings use it: own micro-batches and learning rates, a report window, safe checkpoints."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from models.errors import ArtifactError
from models.memory import release_memory_after
from models.training.checkpoints import CheckpointFolder, write_json
from models.training.guard import wait_for_all
from models.training.window import StepWindow

WEIGHTS = "model.safetensors"
STATE = "state.json"
_IDS_SHOWN = 64


class ResumableTrainer(Trainer, ABC):
    """Trains a module whose forward pass is its share of the step's loss, in one epoch of planned micro-batches.

    Subclasses give the micro-batches (`train_sampler`) and the learning rates (`lr_factors`), count in `get_batch_samples` what a
    step's loss is divided by, and close the step in `_clip_grad_norm`. Losses are divided by totals over the whole optimiser
    step: Trainer's division by the accumulation steps is switched off, and `undo_mean` undoes DDP's (and FSDP's) mean over
    processes.

    A checkpoint is written to `CheckpointFolder.writing` and renamed when all processes are done: Trainer's own files with the
    weights as safetensors, and `state.json` with `extra_state`.

    Attributes:
        checkpoints: Where checkpoints go.
        window: Takes the losses and reports them.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        module: nn.Module,
        args: TrainingArguments,
        *,
        data: Dataset[Any],
        collator: Callable[[Sequence[Any]], Any],
        checkpoints: CheckpointFolder,
        window: StepWindow,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Set up; `args.output_dir` must be `checkpoints.writing`."""
        self.checkpoints, self.window = checkpoints, window
        super().__init__(
            model=module,
            args=args,
            train_dataset=data,
            data_collator=collator,
            callbacks=[*callbacks, MemoryKeeper()],
        )
        self.remove_callback(PrinterCallback)

    # --- data, learning rates --------------------------------------------------------------------------------------------

    @abstractmethod
    def train_sampler(self) -> Sampler[list[Any]]:
        """Return this process's micro-batches of all steps."""

    @abstractmethod
    def lr_factors(self, optimiser: torch.optim.Optimizer) -> list[Callable[[int], float]]:
        """Return for each group of the optimiser what its rate is multiplied by at a step, counted from 0."""

    @override
    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the micro-batches of `train_sampler`, collated."""
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.train_sampler(),
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    @override
    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the learning rates of `lr_factors`, by optimiser step."""
        if self.lr_scheduler is None:
            chosen = optimizer or self.optimizer
            assert chosen is not None  # Trainer has made it
            self.lr_scheduler = LambdaLR(chosen, self.lr_factors(chosen))
        return self.lr_scheduler

    # --- one optimiser step ----------------------------------------------------------------------------------------------

    def summed(self, row: list[int], device: torch.device) -> list[int]:
        """Return counts added up over all processes (each must call it)."""
        if self.args.world_size == 1:
            return row
        shared = torch.tensor(row, device=device)
        dist.all_reduce(shared)
        total: list[int] = shared.tolist()
        return total

    def undo_mean(self, loss: Tensor) -> Tensor:
        """Return a loss whose gradient, averaged over processes, is the sum of theirs."""
        scaled: Tensor = loss * self.args.world_size
        return scaled

    @override
    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    @override
    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nothing reads Trainer's count."""
        return 0

    def kept_checkpoint(self) -> str:
        """Return a sentence on the checkpoint that a failed training leaves, or ""."""
        newest = self.checkpoints.newest()
        return f"The checkpoint `{newest.name}` is kept. " if newest else ""

    # --- checkpoints -----------------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides Trainer's own state, JSON-ready; every process must call it."""
        return {"window": self.window.state()}

    def restore_extra_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `extra_state` returned."""
        self.window.restore(state["window"], main=self.args.process_index == 0, device=self.args.device)

    def resume(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        if checkpoint is not None:
            self.restore_extra_state(json.loads((checkpoint / STATE).read_text(encoding="utf-8")))
        self.window.start_clock()
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    @override
    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, main = int(self.state.global_step), bool(self.args.should_save)
        if main:
            shutil.rmtree(self.checkpoints.writing, ignore_errors=True)
        wait_for_all()
        super()._save_checkpoint(model, trial)
        state = self.extra_state()
        if main:
            write_json(self.checkpoints.writing / f"checkpoint-{step}" / STATE, state)
        wait_for_all()
        if main:
            self.checkpoints.commit(step)
        wait_for_all()

    @override
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trained weights to a checkpoint; under FSDP accelerate writes them with the optimiser."""
        if self.args.should_save and not self.is_fsdp_enabled and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            state = {name: tensor.contiguous() for name, tensor in self._trained().items()}
            save_file(state, Path(output_dir) / WEIGHTS, metadata={"format": "pt"})

    @override
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
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
        return {name: tensor.detach() for name, tensor in (parameters | buffers).items()}


class MemoryKeeper(TrainerCallback):
    """Returns freed memory to the system after each step on a CPU: batches of varying length fragment glibc's heap."""

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        release_memory_after(args.device.type)


def listed(ids: Sequence[str]) -> str:
    """Return sample ids for an error message: the first 64, and how many more there are."""
    more = f" … and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return (", ".join(f"`{id_}`" for id_ in ids[:_IDS_SHOWN]) or "none") + more
