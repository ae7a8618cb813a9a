"""Micro-batches from two aligned signal stores: ground truth (training mode) and winning response (inference mode)."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from models.errors import SignalError
from models.fusion.losses import TeacherRows
from models.fusion.schedule import StepPlan
from models.fusion.signal import SignalBatch, SignalStore

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
PlannedPrompt = tuple[int, int]
"""(optimiser step, index of the prompt)."""


@dataclass(frozen=True, slots=True)
class ModeCounts:
    """What one store gives to the training; samples, and response tokens after cutting (end token included).

    Attributes:
        samples: Prompts with a response in the store.
        missing: Prompts without one: they contribute nothing to this mode's loss.
        prompt_too_long: Prompts that leave no room for a response within `max_length`: likewise.
        cut: Responses cut at `max_length`.
        tokens: Response tokens, once through the prompts.
        without_teacher: Those of them without a teacher's distribution (SFT trains them, KL does not).
    """

    samples: int
    missing: int
    prompt_too_long: int
    cut: int
    tokens: int
    without_teacher: int


class ModeSignals:
    """One aligned store, by index of the prompt.

    Attributes:
        store: The store.
        num_prompt: int64[P], tokens of each prompt.
        num_tokens: int64[P], response tokens that are trained; 0 where the prompt contributes nothing.
        counts: Totals.
    """

    def __init__(self, store: SignalStore, ids: Sequence[str], *, max_length: int) -> None:
        """Measure all samples once; `max_length` bounds prompt + response, in tokens."""
        self.store = store
        self.num_prompt = np.zeros(len(ids), np.int64)
        self.num_tokens = np.zeros(len(ids), np.int64)
        missing = too_long = cut = taught = 0
        for index, id_ in enumerate(ids):
            if id_ not in store:
                missing += 1
                continue
            sample = store[id_]
            if sample.prompt_ids is None or sample.has_teacher is None or not len(sample.prompt_ids):
                raise SignalError(f"Sample `{id_}` of `{store.folder}` must have a prompt, but has none. Run the alignment again.")
            room = max(max_length - len(sample.prompt_ids), 0)
            kept = min(sample.num_tokens, room)
            too_long += kept == 0
            cut += 0 < kept < sample.num_tokens
            taught += int(sample.has_teacher[:kept].sum())
            self.num_prompt[index], self.num_tokens[index] = len(sample.prompt_ids), kept
        tokens = int(self.num_tokens.sum())
        samples = int((self.num_tokens > 0).sum())
        self.counts = ModeCounts(samples, missing, int(too_long), int(cut), tokens, tokens - taught)


class PairedSignals(Dataset[PlannedPrompt]):
    """The prompts of both stores: those of the ground truth in its order, then those with a response only.

    As a data set it hands through what the sampler plans, since rows are read a micro-batch at a time in `collate`.

    Attributes:
        ids: Sample ids.
        train: Ground truth with the Min-CE winner's distribution.
        infer: Winning response with its generator's distribution.
    """

    def __init__(self, train: SignalStore, infer: SignalStore, *, max_length: int) -> None:
        """Join two stores by sample id; what is missing is counted and logged."""
        self.ids = (*train.ids, *(id_ for id_ in infer.ids if id_ not in train))
        self.train = ModeSignals(train, self.ids, max_length=max_length)
        self.infer = ModeSignals(infer, self.ids, max_length=max_length)
        for name, mode in (("ground truth", self.train), ("response", self.infer)):
            logger.info("%s of %d prompts: %s", name, len(self.ids), mode.counts)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, planned: PlannedPrompt) -> PlannedPrompt:
        return planned


@dataclass(frozen=True, slots=True)
class FusionBatch:
    """One micro-batch: B rows of at most L tokens, N supervised positions of which the first `num_infer` are responses.

    Attributes:
        input_ids: int64[B, L], prompt and response but for its last token; padded on the right with 0. No attention mask: a
            causal model's real positions never see what follows them.
        positions: int64[N], index into B·L of the hidden state that predicts each label.
        labels: int64[N].
        num_infer: Positions of inference mode; the other N − num_infer are of training mode.
        infer_teacher: Teacher rows of the former, or None where β = 0.
        train_teacher: Teacher rows of the latter, likewise.
        step: Optimiser step (from 0).
        ids: Sample ids of the prompts.
        num_inputs: Input tokens without padding.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    num_infer: int
    infer_teacher: TeacherRows | None
    train_teacher: TeacherRows | None
    step: int
    ids: tuple[str, ...]
    num_inputs: int

    @property
    def num_train(self) -> int:
        """Positions of training mode."""
        return self.labels.shape[0] - self.num_infer

    def to(self, device: torch.device) -> "FusionBatch":
        """Return the batch on a device."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> "FusionBatch":
        """Return the batch in page-locked memory (torch's DataLoader calls this by name)."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: "MoveTensor") -> "FusionBatch":
        return replace(
            self,
            input_ids=move(self.input_ids),
            positions=move(self.positions),
            labels=move(self.labels),
            infer_teacher=_move_teacher(self.infer_teacher, move),
            train_teacher=_move_teacher(self.train_teacher, move),
        )
