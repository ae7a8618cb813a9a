"""Hugging Face's Trainer with the fusion loss.

Two token counts a step instead of one, its own data order, and the switch between phases.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.errors import ArtifactError, NumericsError
from models.fusion.losses import FusionLoss
from models.fusion.schedule import StepPlan
from models.fusion.train.batches import FusionBatch, FusionCollator, MicroBatchSampler
from models.fusion.train.module import FusionModule, FusionOutput
from models.fusion.train.prompt_signals import PairedSignals
from models.fusion.train.window import LossWindow, StepTotals
from models.params.fusion import CheckpointParams, FusionParams
from models.training.checkpoints import CheckpointFolder, write_json
from models.training.trainer import MemoryKeeper


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


WEIGHTS = "model.safetensors"
WINDOW = "window.json"
_IDS_SHOWN = 64


class _Seen(NamedTuple):
    """A micro-batch of the present step and its detached loss."""

    batch: FusionBatch
    output: FusionOutput


class FusionTrainer(Trainer):
    """Trains a `FusionModule` over a `StepPlan`.

    The objective of an optimiser step is w_infer · (SFT + β·KL)_infer / n_infer + w_train · (SFT + β·KL)_train / n_train with n
    the mode's tokens over all micro-batches and ranks (eq. 6 of ProFuser; `normalise: tokens` divides both terms by n_infer +
    n_train). Each micro-batch contributes sums over these counts,
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
        cfg: FusionParams,
        window: LossWindow,
        checkpoints: CheckpointFolder,
        clock: CheckpointClock,
    ) -> None:
        """Set up; `args.output_dir` must be `checkpoints.writing`."""
        self._plan, self._cfg, self._window, self._clock, self._checkpoints = plan, cfg, window, clock, checkpoints
        self._totals = StepTotals(0, 0, 0, plan.weights_at(0), cfg.normalise)
        self._seen: list[_Seen] = []
        self._lengths = signals.lengths
        collator = FusionCollator(signals, plan)
        callbacks = [clock, MemoryKeeper()]
        super().__init__(model=module, args=args, train_dataset=signals, data_collator=collator, callbacks=callbacks)  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)

    # --- data, learning rate ---------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this rank's micro-batches of the whole plan, as one epoch of Trainer's."""
        sampler = MicroBatchSampler(
            self._plan,
            seed=self._cfg.seed,
            micro_batch_size=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            lengths=self._lengths,
        )
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.device.type == "cuda",
        )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the learning rate of the plan, by optimiser step."""
        if self.lr_scheduler is None:
            chosen = optimizer or self.optimizer
            assert chosen is not None  # Trainer has made it
            self.lr_scheduler = LambdaLR(chosen, lambda step: self._plan.lr_factor(step, self._cfg))
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
        self._totals = StepTotals(step, row[0], row[1], self._plan.weights_at(step), self._cfg.normalise)
        self._seen = []
        return batches, self._totals

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
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

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nothing reads Trainer's count."""
        return 0

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and close the step for the reports: this runs once a step, before the optimiser's."""
        norm = super()._clip_grad_norm(model)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        losses = torch.stack([seen.output.loss for seen in self._seen])
        grad_norm, loss = torch.stack([norm.detach().float(), losses.sum().float()]).tolist()
        if not (math.isfinite(grad_norm) and math.isfinite(loss)):
            raise NumericsError(self._blame(grad_norm, loss))
        self._window.end_step(self._totals, lr=self._get_learning_rate(), grad_norm=grad_norm)
        return norm

    def _blame(self, grad_norm: float, loss: float) -> str:
        """Describe a step whose loss or gradient is not finite."""
        totals, bad, everything = self._totals, list[str](), list[str]()
        for batch, output in self._seen:
            everything += [id_ for id_ in batch.row_ids if id_ not in everything]
            bad += [id_ for id_ in _not_finite(batch, output) if id_ not in bad]
        if self.args.world_size > 1 and not math.isfinite(grad_norm):  # then every rank is here: the gradient is shared
            found: list[list[str]] = [[] for _ in range(self.args.world_size)]
            dist.all_gather_object(found, bad)
            bad = sorted({id_ for part in found for id_ in part})
        kept = self._checkpoints.newest()
        return (
            f"Training step {totals.step + 1} of {self._plan.total_steps} (phase {totals.weights.phase + 1}, "
            f"w_infer {totals.weights.w_infer:g}, w_train {totals.weights.w_train:g}): loss and gradient must be finite, but "
            f"the loss is {loss} and the gradient norm {grad_norm}. Samples with a loss that is not finite: {_listed(bad)}; "
            f"samples of the step on this process: {_listed(everything)}. "
            f"{f'The checkpoint `{kept.name}` is kept. ' if kept else ''}"
            "Look at these samples and their signals, or lower `fusion.lr`."
        )

    # --- checkpoints -----------------------------------------------------------------------------------------------------

    def resume(self, checkpoint: Path | None) -> None:
        """Train to the end of the plan, from a checkpoint of `checkpoints` or from the start."""
        if checkpoint is not None:
            state = json.loads((checkpoint / WINDOW).read_text(encoding="utf-8"))
            self._window.restore(state, main=self.args.process_index == 0, device=self.args.device)
        self._window.start_clock()
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write Trainer's checkpoint aside, with the open report window, and rename it when all ranks are done."""
        step, main = int(self.state.global_step), bool(self.args.should_save)
        if main:
            shutil.rmtree(self._checkpoints.writing, ignore_errors=True)
        self._wait()
        super()._save_checkpoint(model, trial)
        window = self._window.state()
        if main:
            write_json(self._checkpoints.writing / f"checkpoint-{step}" / WINDOW, window)
        self._wait()
        if main:
            self._checkpoints.commit(step)
        self._wait()

    def _wait(self) -> None:
        if self.args.world_size > 1:
            dist.barrier()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what is trained to a checkpoint; under FSDP accelerate writes it with the optimiser."""
        if self.args.should_save and not self.is_fsdp_enabled and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(self._trained(), Path(output_dir) / WEIGHTS, metadata={"format": "pt"})

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

    def full_state(self) -> dict[str, Tensor] | None:
        """Return the state of `FusionModule.causal_lm` gathered from all ranks under FSDP (each must call it), else None."""
        if not self.is_fsdp_enabled:
            return None
        module: Any = self.model
        gathered: dict[str, Tensor] = module.causal_state(self.accelerator.get_state_dict(self.model))
        return gathered


def _not_finite(batch: FusionBatch, output: FusionOutput) -> list[str]:
    """Return the ids of the rows that hold a loss which is not finite."""
    width, split = batch.input_ids.shape[1], batch.num_infer
    pairs: list[tuple[FusionLoss | None, Tensor]] = [
        (output.infer, batch.positions[:split]),
        (output.train, batch.positions[split:]),
    ]
    rows = [positions[~torch.isfinite(mode.sft + mode.kl)] // width for mode, positions in pairs if mode is not None]
    return [batch.row_ids[row] for row in torch.cat(rows).unique().tolist()]


def _listed(ids: list[str]) -> str:
    more = f" … and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return (", ".join(f"`{id_}`" for id_ in ids[:_IDS_SHOWN]) or "none") + more
