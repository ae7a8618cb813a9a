"""Two aligned signal stores joined by prompt: ground truth (training mode) and winning response (inference mode)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from models.errors import SignalError
from models.fusion.signal import SignalStore

logger = logging.getLogger(__name__)

PlannedPrompt = tuple[int, int]
"""(optimiser step from 0, index of the prompt)."""


@dataclass(frozen=True, slots=True)
class ModeCounts:
    """What one store gives to the training: samples, and response tokens after cutting (end token included).

    Attributes:
        samples: Prompts with a response.
        missing: Prompts that the store does not hold: they contribute nothing to this mode's loss.
        prompt_too_long: Prompts that leave no room for a response within `max_length`: likewise.
        cut: Responses cut at `max_length`.
        tokens: Response tokens of one pass over the prompts.
        without_teacher: Those of them without a teacher's distribution: SFT trains them, KL does not.
    """

    samples: int
    missing: int
    prompt_too_long: int
    cut: int
    tokens: int
    without_teacher: int


class ModeSignals:
    """One aligned store, addressed by index of the prompt (P prompts).

    Attributes:
        store: The store.
        num_prompt: int64[P], tokens of each prompt.
        num_tokens: int64[P], response tokens that are trained; 0 where the prompt contributes nothing.
        counts: Totals.
    """

    def __init__(self, store: SignalStore, ids: Sequence[str], *, max_length: int) -> None:
        """Measure every sample once; `max_length` bounds prompt + response, in tokens.

        Raises:
            SignalError: A sample has no prompt.
        """
        self.store = store
        self.num_prompt: npt.NDArray[np.int64] = np.zeros(len(ids), np.int64)
        self.num_tokens: npt.NDArray[np.int64] = np.zeros(len(ids), np.int64)
        missing = too_long = cut = taught = 0
        for index, id_ in enumerate(ids):
            if id_ not in store:
                missing += 1
                continue
            sample = store[id_]
            if sample.prompt_ids is None or sample.has_teacher is None or not len(sample.prompt_ids):
                raise SignalError(f"Sample `{id_}` of `{store.folder}` must have a prompt, but has none. Align it again.")
            kept = min(sample.num_tokens, max(max_length - len(sample.prompt_ids), 0))
            too_long += kept == 0
            cut += 0 < kept < sample.num_tokens
            taught += int(sample.has_teacher[:kept].sum())
            self.num_prompt[index], self.num_tokens[index] = len(sample.prompt_ids), kept
        samples, tokens = int((self.num_tokens > 0).sum()), int(self.num_tokens.sum())
        self.counts = ModeCounts(samples, missing, too_long, cut, tokens, tokens - taught)


class PairedSignals(Dataset[PlannedPrompt]):
    """The prompts of both stores: those of the ground truth in its order, then those with a response only.

    Every method sees the same prompts, whichever of the stores it trains on. As a data set it hands through what the sampler
    plans: rows are read a micro-batch at a time, by the collator.

    Attributes:
        ids: Sample ids.
        train: Ground truth with the Min-CE winner's distribution.
        infer: Winning response with its generator's distribution.
    """

    def __init__(self, train: SignalStore, infer: SignalStore, *, max_length: int) -> None:
        """Join the stores by sample id; what is missing is counted and logged."""
        self.ids: tuple[str, ...] = (*train.ids, *(id_ for id_ in infer.ids if id_ not in train))
        self.train = ModeSignals(train, self.ids, max_length=max_length)
        self.infer = ModeSignals(infer, self.ids, max_length=max_length)
        for name, counts in (("ground truth", self.train.counts), ("response", self.infer.counts)):
            level = logging.WARNING if counts.missing or counts.prompt_too_long else logging.INFO
            logger.log(level, "Signals of the %s for %d prompts: %s", name, len(self.ids), counts)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, planned: PlannedPrompt) -> PlannedPrompt:
        return planned
