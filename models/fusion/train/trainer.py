"""The Trainer of fusion: two token counts a step instead of one, checkpoints by the clock, the switch between phases."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from models.errors import NumericsError
from models.fusion.losses import FusionLoss
from models.fusion.schedule import StepPlan
from models.fusion.train.batches import FusionBatch, FusionCollator, MicroBatchSampler
from models.fusion.train.module import FusionModule, FusionOutput
from models.fusion.train.prompt_signals import PairedSignals
from models.fusion.train.window import LossWindow, StepTotals
from models.params.fusion import CheckpointParams, FusionParams
from models.training.checkpoints import CheckpointFolder
from models.training.trainer import ResumableTrainer, listed


class CheckpointClock(TrainerCallback):
    """Requests a checkpoint every so many steps or minutes, whichever comes first, but not after the last step.

    Attributes:
        due: Set by the trainer when the minutes have passed, on all ranks at the same step.
    """

    def __init__(self, params: CheckpointParams, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Count minutes from now on; `clock` gives seconds."""
        self._every_steps, self._every_seconds = params.every_steps, 60 * params.every_minutes
        self._clock = clock
        self._last = clock()
        self.due = False

    def minutes_passed(self) -> bool:
        """Return whether a checkpoint is due by this process's clock."""
        return self._clock() - self._last >= self._every_seconds

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if (self.due or state.global_step % self._every_steps == 0) and state.global_step < state.max_steps:
            control.should_save = True

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last, self.due = self._clock(), False


class PhaseSwitch(TrainerCallback):
    """Between two phases: has the model saved and, on request, resets the optimiser's moments.

    It acts at the end of the last step of a phase, before the checkpoint of that step is written: a run resumed from that
    checkpoint continues with the next phase.
    """

    def __init__(self, ends: Mapping[int, int], *, save_phase: Callable[[int], object], restart_optimiser: bool) -> None:
        """Act at `ends`: finished steps → number of the phase that ends there, from 1; the last phase is not listed."""
        self._ends = dict(ends)
        self._save_phase = save_phase
        self._restart = restart_optimiser

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Save the model and reset the moments if a phase ends at this step."""
        phase = self._ends.get(state.global_step)
        if phase is None:
            return
        self._save_phase(phase)
        if self._restart:
            optimizer.state.clear()


class _Seen(NamedTuple):
    """A micro-batch of the present step and its detached loss."""

    batch: FusionBatch
    output: FusionOutput


class FusionTrainer(ResumableTrainer):
    """Trains a `FusionModule` over a `StepPlan`.

    The objective of an optimiser step is w_infer · (SFT + β·KL)_infer / n_infer + w_train · (SFT + β·KL)_train / n_train with n
    the mode's tokens over all micro-batches and ranks (eq. 6 of ProFuser; `normalise: tokens` divides both terms by n_infer +
    n_train). Each micro-batch contributes sums over these counts.
    """

    window: LossWindow

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
        self._plan, self._cfg, self._clock = plan, cfg, clock
        self._totals = StepTotals(0, 0, 0, plan.weights_at(0), cfg.normalise)
        self._seen: list[_Seen] = []
        self._lengths = signals.lengths
        super().__init__(
            module,
            args,
            data=signals,
            collator=FusionCollator(signals, plan),
            checkpoints=checkpoints,
            window=window,
            callbacks=[clock],
        )

    # --- data, learning rate ---------------------------------------------------------------------------------------------

    @override
    def train_sampler(self) -> Sampler[list[Any]]:
        return MicroBatchSampler(
            self._plan,
            seed=self._cfg.seed,
            micro_batch_size=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            lengths=self._lengths,
        )

    @override
    def lr_factors(self, optimiser: torch.optim.Optimizer) -> list[Callable[[int], float]]:
        """Return the learning rate of the plan, the same for every group."""
        return [lambda step: self._plan.lr_factor(step, self._cfg)] * len(optimiser.param_groups)

    # --- one optimiser step ----------------------------------------------------------------------------------------------

    @override
    def get_batch_samples(
        self, epoch_iterator: Iterator[FusionBatch], num_batches: int, device: torch.device
    ) -> tuple[list[FusionBatch], Any]:
        """Return the micro-batches of one optimiser step and their `StepTotals`, over all ranks."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        due = int(self.args.process_index == 0 and self._clock.minutes_passed())
        counts = [sum(b.num_infer for b in batches), sum(b.num_train for b in batches), due]
        num_infer, num_train, due = self.summed(counts, device)
        self._clock.due = due > 0
        step = int(self.state.global_step)
        self._totals = StepTotals(step, num_infer, num_train, self._plan.weights_at(step), self._cfg.normalise)
        self._seen = []
        return batches, self._totals

    @override
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        totals: StepTotals = num_items_in_batch
        output: FusionOutput = model(
            inputs, scale_infer=totals.scale_infer, scale_train=totals.scale_train, beta=totals.weights.beta
        )
        detached = FusionOutput(output.loss.detach(), output.infer, output.train)
        self.window.add(detached, totals, num_inputs=inputs.num_inputs)
        self._seen.append(_Seen(inputs, detached))
        loss = self.undo_mean(output.loss)
        return (loss, output) if return_outputs else loss

    @override
    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and close the step for the reports: this runs once a step, before the optimiser's."""
        norm = super()._clip_grad_norm(model)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        losses = torch.stack([seen.output.loss for seen in self._seen])
        grad_norm, loss = torch.stack([norm.detach().float(), losses.sum().float()]).tolist()
        if not (math.isfinite(grad_norm) and math.isfinite(loss)):
            raise NumericsError(self._blame(grad_norm, loss))
        self.window.end_step(self._totals, lr=self._get_learning_rate(), grad_norm=grad_norm)
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
        return (
            f"Training step {totals.step + 1} of {self._plan.total_steps} (phase {totals.weights.phase + 1}, "
            f"w_infer {totals.weights.w_infer:g}, w_train {totals.weights.w_train:g}): loss and gradient must be finite, but "
            f"the loss is {loss} and the gradient norm {grad_norm}. Samples with a loss that is not finite: {listed(bad)}; "
            f"samples of the step on this process: {listed(everything)}. "
            f"{self.kept_checkpoint()}Look at these samples and their signals, or lower `fusion.lr`."
        )

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
