"""Hugging Face's Trainer for retriever and generator together: two learning rates, two clips, a refresh between steps."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.dialogue.train.batches import DialogueBatch, DialogueCollator, TurnSampler
from models.dialogue.train.index_refresh import IndexRefresher
from models.dialogue.train.module import DialogueModule, DialogueOutput
from models.dialogue.train.schedule import DialogueSchedule
from models.dialogue.train.turns import DialogueTurns
from models.dialogue.train.window import DialogueTotals, DialogueWindow
from models.errors import NumericsError
from models.training.checkpoints import CheckpointFolder
from models.training.trainer import MemoryKeeper, ResumableTrainer

_PARTS = ("retriever", "generator")
_IDS_SHOWN = 64


class StepEvents(TrainerCallback):
    """What happens between two optimiser steps: refresh, evaluation, checkpoint, in this order.

    An evaluation sees a fresh index; so does whoever resumes from a checkpoint, for the uninterrupted run refreshes there, too.
    """

    def __init__(
        self,
        schedule: DialogueSchedule,
        refresher: IndexRefresher,
        *,
        evaluate: Callable[[int], None],
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        """Act by `schedule`; `evaluate` takes the number of finished steps, `saved` is called after a checkpoint."""
        self._schedule, self._refresher, self._evaluate, self._saved = schedule, refresher, evaluate, saved

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Make the index of a resumed training: the checkpoint's weights are in place now."""
        self._refresher.refresh()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Act if something is due."""
        done, schedule = int(state.global_step), self._schedule
        if schedule.mode_at(done - 1).retriever:
            self._refresher.encoder_changed()
        evaluation, checkpoint = schedule.evaluation_due(done), schedule.checkpoint_due(done)
        if evaluation or checkpoint or schedule.refresh_due(done):
            self._refresher.refresh()
        if evaluation:
            self._evaluate(done)
        if checkpoint:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say that a checkpoint is complete."""
        if args.process_index == 0:
            self._saved()


class _Seen(NamedTuple):
    """A micro-batch of the present step and its losses."""

    turns: tuple[int, ...]
    loss: Tensor
    by_turn: Tensor


class DialogueTrainer(ResumableTrainer):
    """Trains a `DialogueModule` over a `DialogueSchedule`.

    The NLL is a mean over the response tokens of the optimiser step, the other losses are means over its turns, whatever the
    number of micro-batches and processes: Trainer's division by the accumulation steps is off, DDP's mean over processes is
    undone.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        module: DialogueModule,
        args: TrainingArguments,
        *,
        turns: DialogueTurns,
        collator: DialogueCollator,
        schedule: DialogueSchedule,
        window: DialogueWindow,
        checkpoints: CheckpointFolder,
        seed: int,
        extra: tuple[Callable[[], Mapping[str, Any]], Callable[[Mapping[str, Any]], None]],
    ) -> None:
        """Set up.

        Args:
            module: What is trained.
            args: `args.output_dir` must be `checkpoints.writing`.
            turns: The training split.
            collator: Makes its batches.
            schedule: Steps and learning rates.
            window: Takes the losses.
            checkpoints: Where they go.
            seed: Of the order of turns.
            extra: Gives and takes further JSON-ready state of a checkpoint.
        """
        self.checkpoints = checkpoints
        self._schedule, self._window, self._order_seed, self._extra = schedule, window, seed, extra
        self._totals = DialogueTotals(0, 0, 0, schedule.mode_at(0))
        self._seen: list[_Seen] = []
        self._turns = turns
        super().__init__(model=module, args=args, train_dataset=turns, data_collator=collator, callbacks=[MemoryKeeper()])  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)

    # --- data, optimiser, learning rates ---------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro-batches of all steps, as one epoch of Trainer's."""
        sampler = TurnSampler(
            len(self._turns),
            total_steps=self._schedule.total_steps,
            batch_size=self._schedule.cfg.batch_size,
            micro_batch_size=self.args.per_device_train_batch_size,
            seed=self._order_seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        pinned = self.args.device.type == "cuda"
        return DataLoader(self._turns, batch_sampler=sampler, collate_fn=self.data_collator, pin_memory=pinned)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW with retriever and generator in groups of their own; norms, biases and τ do not decay."""
        if self.optimizer is None:
            cfg, groups = self._schedule.cfg, []
            ours: Any = self.model
            decaying = set(self.get_decay_parameter_names(ours))
            for part, rate in zip(_PARTS, (cfg.retriever_lr, cfg.generator_lr), strict=True):
                named = self._parameters(part)
                for decays in (True, False):
                    chosen = [p for name, p in named.items() if (name in decaying and name != "log_temperature") == decays]
                    if chosen:
                        decay = cfg.weight_decay if decays else 0.0
                        groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "part": part})
            self.optimizer = AdamW(groups, fused=self.args.device.type in ("cpu", "cuda"))
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the learning rates of the schedule, by optimiser step."""
        if self.lr_scheduler is None:
            chosen = optimizer or self.optimizer
            assert chosen is not None  # Trainer has made it
            factors = {"retriever": self._schedule.retriever_factor, "generator": self._schedule.generator_factor}
            self.lr_scheduler = LambdaLR(chosen, [factors[group["part"]] for group in chosen.param_groups])
        return self.lr_scheduler

    def _parameters(self, part: str) -> dict[str, nn.Parameter]:
        """Return the trainable parameters of `retriever` (with τ) or `generator`."""
        module: Any = self.model
        ours = {name: p for name, p in module.named_parameters() if p.requires_grad}
        return {name: p for name, p in ours.items() if name.startswith("generator.") == (part == "generator")}

    # --- one optimiser step ----------------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[DialogueBatch], num_batches: int, device: torch.device
    ) -> tuple[list[DialogueBatch], Any]:
        """Return the micro-batches of one optimiser step and its `DialogueTotals`, over all processes."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        row = [sum(b.num_tokens for b in batches), sum(len(b.turns) for b in batches)]
        if self.args.world_size > 1:
            shared = torch.tensor(row, device=device)
            dist.all_reduce(shared)
            row = shared.tolist()
        step = int(self.state.global_step)
        self._totals = DialogueTotals(step, row[0], row[1], self._schedule.mode_at(step))
        self._seen = []
        return batches, self._totals

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Return this micro-batch's share of the step's objective."""
        totals: DialogueTotals = num_items_in_batch
        output: DialogueOutput = model(inputs, mode=totals.mode, scales=totals.scales)
        self._window.add(output, totals, num_tokens=inputs.num_tokens)
        self._seen.append(_Seen(inputs.turns, output.loss.detach(), output.by_turn))
        loss = output.loss * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip retriever and generator apart, and close the step for the reports: this runs before the optimiser's step."""
        limit = self._schedule.cfg.max_grad_norm
        norms = [nn.utils.clip_grad_norm_(list(self._parameters(part).values()), limit) for part in _PARTS]
        losses = torch.stack([seen.loss.float() for seen in self._seen]).sum()
        device = losses.device
        retriever, generator, loss = torch.stack([n.detach().float().to(device) for n in norms] + [losses]).tolist()
        if not all(map(math.isfinite, (retriever, generator, loss))):
            raise NumericsError(self._blame(retriever, generator, loss))
        self._window.end_step(self._totals, self._figures(retriever, generator))
        return torch.linalg.vector_norm(torch.stack([n.detach().float().to(device) for n in norms]))

    def _figures(self, retriever_norm: float, generator_norm: float) -> dict[str, float]:
        module: Any = self.model
        assert self.optimizer is not None
        rates = {group["part"]: float(group["lr"]) for group in self.optimizer.param_groups}
        figures = {"train/grad_norm_generator": generator_norm, "train/lr_generator": rates["generator"]}
        if "retriever" in rates:
            figures |= {"train/grad_norm_retriever": retriever_norm, "train/lr_retriever": rates["retriever"]}
        if module.log_temperature.requires_grad:
            figures["train/temperature"] = float(module.temperature.detach())
        return figures

    def _blame(self, retriever: float, generator: float, loss: float) -> str:
        """Describe a step whose loss or gradient is not finite."""
        bad, every = list[str](), list[str]()
        for seen in self._seen:
            finite = torch.isfinite(seen.by_turn).tolist()
            names = [self._turns.turns[turn].id for turn in seen.turns]
            every += names
            bad += [name for name, fine in zip(names, finite, strict=True) if not fine]
        kept = self.checkpoints.newest()
        return (
            f"Training step {self._totals.step + 1} of {self._schedule.total_steps}: loss and gradients must be finite, but the "
            f"loss is {loss} and the gradient norms are {retriever} (retriever) and {generator} (generator). Turns with a loss "
            f"that is not finite: {_listed(bad)}; turns of the step on this process: {_listed(every)}. "
            f"{f'The checkpoint `{kept.name}` is kept. ' if kept else ''}"
            "Look at these turns, or lower `dialogue.joint.generator_lr` and `dialogue.joint.retriever_lr`."
        )

    # --- checkpoints -----------------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return the open report window and what `extra` gives."""
        return {"window": self._window.state(), **self._extra[0]()}

    def restore_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on with `extra_state`."""
        self._window.restore(state["window"], main=self.args.process_index == 0, device=self.args.device)
        self._extra[1](state)


def _listed(ids: list[str]) -> str:
    more = f" … and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return (", ".join(f"`{id_}`" for id_ in ids[:_IDS_SHOWN]) or "none") + more
