"""Micro-batches: which prompts a rank sees when, and the tensors made of their signals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler
from typing_extensions import override

from models.fusion.buckets import TeacherRows
from models.fusion.schedule import StepPlan
from models.fusion.signals.record import SignalBatch
from models.fusion.train.prompt_signals import ModeSignals, PairedSignals, PlannedPrompt

Ints = npt.NDArray[np.int64]
MoveTensor = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class FusionBatch:
    """One micro-batch: B rows of at most L tokens, N supervised positions of which the first `num_infer` are responses.

    Attributes:
        input_ids: int64[B, L], prompt and response without its last token, padded on the right with 0. There is no attention
            mask: the real positions of a causal model never see what follows them.
        positions: int64[N], index into B·L of the hidden state that predicts each label.
        labels: int64[N].
        num_infer: Positions of inference mode; the other N − num_infer are of training mode.
        infer_teacher: Teacher rows of inference mode; None where β = 0 or there are none.
        train_teacher: Teacher rows of training mode, likewise.
        step: Optimiser step, from 0.
        row_ids: Sample id of each row, responses before ground truths.
        num_inputs: Input tokens, padding excluded.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    num_infer: int
    infer_teacher: TeacherRows | None
    train_teacher: TeacherRows | None
    step: int
    row_ids: tuple[str, ...]
    num_inputs: int

    @property
    def num_train(self) -> int:
        """Positions of training mode."""
        return self.labels.shape[0] - self.num_infer

    def to(self, device: torch.device) -> "FusionBatch":
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "FusionBatch":
        """Return the batch in page-locked memory (torch's DataLoader calls this by name)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: MoveTensor) -> "FusionBatch":
        return replace(
            self,
            input_ids=move(self.input_ids),
            positions=move(self.positions),
            labels=move(self.labels),
            infer_teacher=_map_teacher(self.infer_teacher, move),
            train_teacher=_map_teacher(self.train_teacher, move),
        )


def _map_teacher(teacher: TeacherRows | None, move: MoveTensor) -> TeacherRows | None:
    return teacher and TeacherRows(move(teacher.ids), move(teacher.logprobs), move(teacher.tail), move(teacher.has))


class MicroBatchSampler(Sampler[list[PlannedPrompt]]):
    """Yields this rank's micro-batches of every optimiser step of the plan, in order.

    A step's prompts are dealt in runs of `micro_batch_size`: run `i·world_size + rank` is micro-batch i of a rank. A short step
    (the end of an epoch) leaves some micro-batches short or empty, never out: all ranks take part in every one. Sorted by
    length, a run needs little padding and the ranks of a micro-batch have similar work; the step's sum is the same.

    In a step that draws apart (`StepPlan.draws_apart`) a run of ground truths is followed by one of winning answers, so that a
    micro-batch has as many texts as where both are those of the same prompts.
    """

    def __init__(
        self,
        plan: StepPlan,
        *,
        seed: int,
        micro_batch_size: int,
        accumulation: int,
        rank: int = 0,
        world_size: int = 1,
        lengths: Ints | None = None,
    ) -> None:
        """Deal each step of `plan`; micro-batch times accumulation times ranks is its batch size.

        Args:
            plan: Steps.
            seed: Of their order.
            micro_batch_size: Prompts of a forward pass.
            accumulation: Micro-batches of a rank in a step.
            rank: This process.
            world_size: Processes.
            lengths: Tokens of each prompt with its response, int64[P]; a step's prompts are dealt from short to long.
        """
        self._plan, self._seed, self._lengths = plan, seed, lengths
        self._micro, self._accumulation = micro_batch_size, accumulation
        self._rank, self._world = rank, world_size

    def __len__(self) -> int:
        return self._plan.total_steps * self._accumulation

    @override
    def __iter__(self) -> Iterator[list[PlannedPrompt]]:
        for step in range(self._plan.total_steps):
            prompts = self._by_length(self._plan.order_at(step, seed=self._seed))
            winners = prompts[:0]
            if self._plan.draws_apart(step):
                winners = ~self._by_length(self._plan.winners_at(step, seed=self._seed))
            for micro in range(self._accumulation):
                start = (micro * self._world + self._rank) * self._micro
                run = slice(start, start + self._micro)
                yield [(step, int(index)) for index in (*prompts[run], *winners[run])]

    def _by_length(self, prompts: Ints) -> Ints:
        return prompts if self._lengths is None else prompts[np.argsort(self._lengths[prompts], kind="stable")]


class FusionCollator:
    """Reads the rows of a micro-batch from the stores and lays them out."""

    def __init__(self, signals: PairedSignals, plan: StepPlan) -> None:
        """Rows are read for the modes that have a weight in the prompt's step, teachers where β > 0."""
        self._signals = signals
        self._plan = plan

    def __call__(self, planned: Sequence[PlannedPrompt]) -> FusionBatch:
        """Return the batch of (step, prompt) pairs, all of one step; none gives a batch without positions."""
        step = planned[0][0] if planned else 0
        weights = self._plan.weights_at(step)
        prompts = np.array([index for _, index in planned], np.int64)
        apart = self._plan.draws_apart(step)
        winners, truths = (~prompts[prompts < 0], prompts[prompts >= 0]) if apart else (prompts, prompts)
        infer = self._read(self._signals.infer, winners, wanted=weights.w_infer > 0)
        train = self._read(self._signals.train, truths, wanted=weights.w_train > 0)
        width = max((int(rows.lengths.max()) for rows in (infer, train) if rows.ids), default=1)
        inputs = np.zeros(max(len(infer.ids) + len(train.ids), 1) * width, np.int64)
        first_train = len(infer.ids)
        positions = [_fill(inputs, infer, first_row=0, width=width), _fill(inputs, train, first_row=first_train, width=width)]
        return FusionBatch(
            input_ids=torch.from_numpy(inputs.reshape(-1, width)),
            positions=torch.from_numpy(np.concatenate(positions)),
            labels=torch.from_numpy(np.concatenate([infer.labels, train.labels])),
            num_infer=len(infer.labels),
            infer_teacher=infer.teacher() if weights.beta > 0 else None,
            train_teacher=train.teacher() if weights.beta > 0 else None,
            step=step,
            row_ids=(*infer.ids, *train.ids),
            num_inputs=int(infer.lengths.sum() + train.lengths.sum()),
        )

    def _read(self, mode: ModeSignals, prompts: Ints, *, wanted: bool) -> "_Rows":
        """Return the samples of those prompts that have any in this mode."""
        chosen = prompts[mode.num_tokens[prompts] > 0] if wanted else prompts[:0]
        signals = mode.store.gather_at(mode.positions[chosen])
        return _Rows(signals, mode.num_prompt[chosen], mode.num_tokens[chosen])


class _Rows:
    """The samples of one mode in a micro-batch: S rows, N kept response tokens.

    Attributes:
        ids: S sample ids.
        lengths: int64[S], input tokens: the prompt and the response without its last token.
        labels: int64[N].
    """

    def __init__(self, signals: SignalBatch, num_prompt: Ints, num_tokens: Ints) -> None:
        self.ids = signals.ids
        self.num_prompt, self.num_tokens = num_prompt, num_tokens
        self.lengths = num_prompt + num_tokens - 1
        self.signals = signals
        within = np.arange(signals.offsets[-1]) - np.repeat(signals.offsets[:-1], np.diff(signals.offsets))
        self._kept = within < np.repeat(num_tokens, np.diff(signals.offsets))
        self.labels = signals.token_ids[self._kept].astype(np.int64)

    def teacher(self) -> TeacherRows | None:
        """Return the teacher of the kept tokens, or None if there are none."""
        if self.signals.has_teacher is None or not len(self.labels):
            return None
        return TeacherRows(
            ids=torch.from_numpy(self.signals.topk_ids[self._kept].astype(np.int64)),
            logprobs=torch.from_numpy(self.signals.topk_logprobs[self._kept].astype(np.float32)),
            tail=torch.from_numpy(self.signals.tail[self._kept].astype(np.float32)),
            has=torch.from_numpy(self.signals.has_teacher[self._kept]),
        )


def _fill(inputs: Ints, rows: _Rows, *, first_row: int, width: int) -> Ints:
    """Write prompts and responses into the flat rows from `first_row` on; return int64[N], where each label is predicted."""
    starts = (first_row + np.arange(len(rows.ids))) * width
    prompt_ids = rows.signals.prompt_ids
    if prompt_ids is not None:
        inputs[_ranges(starts, rows.num_prompt)] = prompt_ids
    positions = _ranges(starts + rows.num_prompt - 1, rows.num_tokens)
    fed = np.ones(len(positions), np.bool_)
    fed[np.cumsum(rows.num_tokens) - 1] = False  # nothing is predicted from the last token
    inputs[positions[fed] + 1] = rows.labels[fed]
    return positions


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return the concatenated ranges starts[s], …, starts[s] + lengths[s] − 1."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
