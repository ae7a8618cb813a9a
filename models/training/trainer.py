"""Hugging Face's Trainer with the fusion loss: two token counts a step instead of one, its own data order, safe checkpoints."""

import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from models.errors import NumericsError
from models.fusion.schedule import StepPlan
from models.training.batches import FusionBatch, FusionCollator, MicroBatchSampler
from models.training.callbacks import CheckpointClock
from models.training.checkpoints import CheckpointFolder, write_json
from models.training.fusion_module import FusionModule, FusionOutput
from models.training.loss_window import LossWindow, StepTotals
from models.training.prompt_signals import PairedSignals

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
WINDOW = "window.json"
_IDS_SHOWN = 64


class _Seen(NamedTuple):
    batch: FusionBatch
    output: FusionOutput


class FusionTrainer(Trainer):
    """Trains a `FusionModule` over a `StepPlan`.

    The objective of an optimiser step is w_infer · (SFT + β·KL)_infer / n_infer + w_train · (SFT + β·KL)_train / n_train with n
    the mode's tokens over all micro-batches and ranks (eq. 6 of ProFuser). Each micro-batch contributes sums over these counts,
    so that Trainer's division by the accumulation steps is switched off and DDP's (and FSDP's) mean over ranks is undone.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        module: FusionModule,
        args: TrainingArguments,
        *,
        signals: PairedSignals,
        plan: StepPlan,
        lr_at: Callable[[int], float],
        window: LossWindow,
        checkpoints: CheckpointFolder,
        clock: CheckpointClock,
        callbacks: list[TrainerCallback],
    ) -> None:
        """Set up; `lr_at` maps an optimiser step to its factor on `args.learning_rate`."""
        self._plan, self._lr_at, self._window, self._clock = plan, lr_at, window, clock
        self._checkpoints = checkpoints
        self._totals: StepTotals | None = None
        self._seen: list[_Seen] = []
        collator = FusionCollator(signals, plan)
        super().__init__(
            model=module, args=args, train_dataset=signals, data_collator=collator, callbacks=[*callbacks, clock]
        )
        self.remove_callback(PrinterCallback)

    # --- data, learning rate ---------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this rank's micro-batches of the whole plan, as one epoch of Trainer's."""
        sampler = MicroBatchSampler(
            self._plan,
            micro_batch_size=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=sampler,  # type: ignore[arg-type]
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the learning rate of the plan, by optimiser step."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self._lr_at)  # type: ignore[arg-type]
        return self.lr_scheduler

    # --- one optimiser step ----------------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[FusionBatch], num_batches: int, device: torch.device
    ) -> tuple[list[FusionBatch], Any]:
        """Return the micro-batches of one optimiser step and their `StepTotals`, over all ranks."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        row = [sum(b.num_infer for b in batches), sum(b.num_train for b in batches), 0]
        row[2] = int(self.args.process_index == 0 and self._clock.minutes_passed())
        if self.args.world_size > 1:
            shared = torch.tensor(row, device=device)
            dist.all_reduce(shared)
            row = shared.tolist()
        self._clock.due = row[2] > 0
        step = int(self.state.global_step)
        self._totals = StepTotals(step, row[0], row[1], self._plan.weights_at(step))
        self._seen = []
        return batches, self._totals

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this micro-batch's share of the step's objective."""
        totals: StepTotals = num_items_in_batch
        output: FusionOutput = model(
            inputs, scale_infer=totals.scale_infer, scale_train=totals.scale_train, beta=totals.weights.beta
        )
        detached = FusionOutput(output.loss.detach(), output.infer, output.train)
        self._window.add(detached, totals, num_inputs=inputs.num_inputs)
        self._seen.append(_Seen(inputs, detached))
        loss = output.loss * self.args.world_size
        return (loss, output) if return_outputs else loss
