"""The Trainer of retriever and generator together: two learning rates, two clips, a refresh between steps."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from models.dialogue.train.batches import DialogueBatch, DialogueCollator, TurnSampler
from models.dialogue.train.index_refresh import IndexRefresher
from models.dialogue.train.module import DialogueModule, DialogueOutput
from models.dialogue.train.schedule import DialogueSchedule
from models.dialogue.train.turns import DialogueTurns
from models.dialogue.train.window import DialogueTotals, DialogueWindow
from models.errors import NumericsError
from models.training.checkpoints import CheckpointFolder
from models.training.trainer import ResumableTrainer, listed

_PARTS = ("retriever", "generator")
_SCORER = "retriever.scorer."


class StepEvents(TrainerCallback):
    """Refreshes, evaluates and requests checkpoints between two optimiser steps, in this order.

    An evaluation uses a fresh index. So does a run that resumes from a checkpoint, and therefore a checkpoint refreshes the index
    in the uninterrupted run as well.
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

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Build the index of a resumed training: the checkpoint's weights have been loaded by now."""
        self._refresher.refresh()

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
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

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
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
    number of micro-batches and processes.
    """

    window: DialogueWindow

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
        self._schedule, self._order_seed, self._extra = schedule, seed, extra
        self._totals = DialogueTotals(0, 0, 0, schedule.mode_at(0))
        self._seen: list[_Seen] = []
        self._turns = turns
        super().__init__(module, args, data=turns, collator=collator, checkpoints=checkpoints, window=window)

    # --- data, optimiser, learning rates ---------------------------------------------------------------------------------

    @override
    def train_sampler(self) -> Sampler[list[Any]]:
        return TurnSampler(
            len(self._turns),
            total_steps=self._schedule.total_steps,
            batch_size=self._schedule.cfg.batch_size,
            micro_batch_size=self.args.per_device_train_batch_size,
            seed=self._order_seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )

    @override
    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW with retriever, its score and generator in groups; matrices alone decay."""
        if self.optimizer is None:
            cfg, groups = self._schedule.cfg, []
            ours: Any = self.model
            decaying = set(self.get_decay_parameter_names(ours))
            for part, rate in zip(_PARTS, (cfg.retriever_lr, cfg.generator_lr), strict=True):
                named = self._parameters(part)
                if scorer := [named.pop(name) for name in list(named) if name.startswith(_SCORER)]:
                    rate_of_weights = rate * ours.retriever.cfg.lexical.lr_factor
                    groups.append({"params": scorer, "lr": rate_of_weights, "weight_decay": 0.0, "part": "scorer"})
                for decays in (True, False):
                    chosen = [p for name, p in named.items() if (name in decaying and name != "log_temperature") == decays]
                    if chosen:
                        decay = cfg.weight_decay if decays else 0.0
                        groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "part": part})
            self.optimizer = AdamW(groups, fused=self.args.device.type in ("cpu", "cuda"))
        return self.optimizer

    @override
    def lr_factors(self, optimiser: torch.optim.Optimizer) -> list[Callable[[int], float]]:
        """Return the learning rates of the schedule, by the part that a group belongs to."""
        retriever = self._schedule.retriever_factor
        factors = {"retriever": retriever, "scorer": retriever, "generator": self._schedule.generator_factor}
        return [factors[group["part"]] for group in optimiser.param_groups]

    def _parameters(self, part: str) -> dict[str, nn.Parameter]:
        """Return the trainable parameters of `retriever` (with τ) or `generator`."""
        module: Any = self.model
        ours = {name: p for name, p in module.named_parameters() if p.requires_grad}
        return {name: p for name, p in ours.items() if name.startswith("generator.") == (part == "generator")}

    # --- one optimiser step ----------------------------------------------------------------------------------------------

    @override
    def get_batch_samples(
        self, epoch_iterator: Iterator[DialogueBatch], num_batches: int, device: torch.device
    ) -> tuple[list[DialogueBatch], Any]:
        """Return the micro-batches of one optimiser step and its `DialogueTotals`, over all processes."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        counts = [sum(b.num_tokens for b in batches), sum(len(b.turns) for b in batches)]
        num_tokens, num_turns = self.summed(counts, device)
        step = int(self.state.global_step)
        self._totals = DialogueTotals(step, num_tokens, num_turns, self._schedule.mode_at(step))
        self._seen = []
        return batches, self._totals

    @override
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        totals: DialogueTotals = num_items_in_batch
        output: DialogueOutput = model(inputs, mode=totals.mode, scales=totals.scales)
        self.window.add(output, totals, num_tokens=inputs.num_tokens)
        self._seen.append(_Seen(inputs.turns, output.loss.detach(), output.by_turn))
        loss = self.undo_mean(output.loss)
        return (loss, output) if return_outputs else loss

    @override
    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip retriever and generator separately, and close the step for the reports: this runs before the optimiser's step."""
        limit = self._schedule.cfg.max_grad_norm
        norms = [nn.utils.clip_grad_norm_(list(self._parameters(part).values()), limit) for part in _PARTS]
        losses = torch.stack([seen.loss.float() for seen in self._seen]).sum()
        device = losses.device
        retriever, generator, loss = torch.stack([n.detach().float().to(device) for n in norms] + [losses]).tolist()
        if not all(map(math.isfinite, (retriever, generator, loss))):
            raise NumericsError(self._blame(retriever, generator, loss))
        self.window.end_step(self._totals, self._figures(retriever, generator))
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
        if "scorer" in rates:
            figures |= {f"train/weight_{name}": value for name, value in module.retriever.scorer.figures().items()}
        return figures

    def _blame(self, retriever: float, generator: float, loss: float) -> str:
        """Describe a step whose loss or gradient is not finite."""
        bad, every = list[str](), list[str]()
        for seen in self._seen:
            finite = torch.isfinite(seen.by_turn).tolist()
            names = [self._turns.turns[turn].id for turn in seen.turns]
            every += names
            bad += [name for name, fine in zip(names, finite, strict=True) if not fine]
        return (
            f"Training step {self._totals.step + 1} of {self._schedule.total_steps}: loss and gradients must be finite, but the "
            f"loss is {loss} and the gradient norms are {retriever} (retriever) and {generator} (generator). Turns with a loss "
            f"that is not finite: {listed(bad)}; turns of the step on this process: {listed(every)}. "
            f"{self.kept_checkpoint()}Look at these turns, or lower `dialogue.joint.generator_lr` and "
            "`dialogue.joint.retriever_lr`."
        )

    # --- checkpoints -----------------------------------------------------------------------------------------------------

    @override
    def extra_state(self) -> dict[str, Any]:
        """Return the open report window and what `extra` gives."""
        return {**super().extra_state(), **self._extra[0]()}

    @override
    def restore_extra_state(self, state: Mapping[str, Any]) -> None:
        super().restore_extra_state(state)
        self._extra[1](state)
