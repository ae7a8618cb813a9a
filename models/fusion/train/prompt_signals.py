"""Two aligned signal stores joined by prompt: ground truth (training mode) and winning response (inference mode)."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset
from typing_extensions import override

from models.errors import SignalError
from models.fusion.prompt_pools import PromptPools
from models.fusion.signals.store import MISSING, SignalStore

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]

_CHUNK = 4_096  # samples

Mode = Literal["train", "infer"]
PlannedPrompt = tuple[int, int]
"""(optimiser step from 0, index of the prompt); in a step that draws apart, ~index stands for its winning answer alone."""


@dataclass(frozen=True, slots=True)
class ModeCounts:
    """What one store contributes to the training: samples, and response tokens after truncation (end token included).

    Attributes:
        samples: Prompts with a response.
        missing: Prompts that the store does not hold; they contribute nothing to this mode's loss.
        prompt_too_long: Prompts that leave no room for a response within `max_length`; they contribute nothing either.
        cut: Responses truncated at `max_length`.
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
        positions: int64[P], where the store holds each prompt's sample; -1 where it does not.
        num_prompt: int64[P], tokens of each prompt.
        num_tokens: int64[P], response tokens that are trained; 0 where the prompt contributes nothing.
        counts: Totals.
    """

    def __init__(self, store: SignalStore, positions: Ints, *, max_length: int) -> None:
        """Measure every sample once; `max_length` bounds prompt + response, in tokens.

        Raises:
            SignalError: A sample has no prompt.
        """
        self.store, self.positions = store, positions
        there = positions != MISSING
        held = positions[there]
        prompts, responses = store.prompt_lengths(held), store.lengths(held)
        if (prompts == 0).any():
            id_ = store.ids.at(held[prompts == 0][:1])[0]
            raise SignalError(f"Sample `{id_}` of `{store.folder}` must have a prompt, but has none. Align it again.")
        kept = np.minimum(responses, np.maximum(max_length - prompts, 0))
        self.num_prompt: Ints = np.zeros(len(positions), np.int64)
        self.num_tokens: Ints = np.zeros(len(positions), np.int64)
        self.num_prompt[there], self.num_tokens[there] = prompts, kept
        self.counts = ModeCounts(
            samples=int((kept > 0).sum()),
            missing=int((~there).sum()),
            prompt_too_long=int((kept == 0).sum()),
            cut=int(((kept > 0) & (kept < responses)).sum()),
            tokens=int(kept.sum()),
            without_teacher=int(kept.sum()) - _count_taught(store, held, kept),
        )


class PairedSignals(Dataset[PlannedPrompt]):
    """The prompts of both stores: those of the ground truth in its order, then those with a response only.

    Every method sees the same prompts, whichever of the stores it trains on. As a data set it returns the planned
    prompts themselves: the collator reads the rows, a micro-batch at a time.

    Attributes:
        train: Ground truth with the Min-CE winner's distribution.
        infer: Winning response with its generator's distribution.
    """

    def __init__(
        self, train: SignalStore, infer: SignalStore, *, max_length: int, trained: Collection[Mode] = ("train", "infer")
    ) -> None:
        """Join the stores by sample id; what is missing is counted, and a warning in a mode that is `trained`."""
        only_infer = np.flatnonzero(train.find(infer.ids) == MISSING)
        in_train = np.concatenate([np.arange(len(train)), np.full(len(only_infer), MISSING)])
        self.train = ModeSignals(train, in_train, max_length=max_length)
        self.infer = ModeSignals(infer, np.concatenate([infer.find(train.ids), only_infer]), max_length=max_length)
        modes: tuple[tuple[Mode, str, ModeCounts], ...] = (
            ("train", "ground truth", self.train.counts),
            ("infer", "winning answer", self.infer.counts),
        )
        for mode, name, counts in modes:
            lost = mode in trained and (counts.missing or counts.prompt_too_long)
            logger.log(logging.WARNING if lost else logging.INFO, "%s", _described(name, counts, num_prompts=len(self)))

    @property
    def pools(self) -> PromptPools:
        """The prompts that have tokens to train on, by mode."""
        train, infer = (np.flatnonzero(mode.num_tokens) for mode in (self.train, self.infer))
        return PromptPools.of(train=train, infer=infer)

    @property
    def lengths(self) -> Ints:
        """Tokens of each prompt with the longer of its responses, int64[P]."""
        train, infer = (mode.num_prompt + mode.num_tokens for mode in (self.train, self.infer))
        longest: Ints = np.maximum(train, infer)
        return longest

    def __len__(self) -> int:
        return len(self.train.positions)

    @override
    def __getitem__(self, planned: PlannedPrompt) -> PlannedPrompt:
        return planned


def _described(name: str, counts: ModeCounts, *, num_prompts: int) -> str:
    return (
        f"{counts.samples:,} of {num_prompts:,} prompts train on a {name}: {counts.missing:,} have none, to "
        f"{counts.prompt_too_long:,} `fusion.max_length` leaves no room for it; {counts.cut:,} are cut there. Of "
        f"{counts.tokens:,} tokens {counts.without_teacher:,} have no teacher."
    )


def _count_taught(store: SignalStore, positions: Ints, kept: Ints) -> int:
    """Count the kept tokens that have a teacher, a part of the store at a time."""
    count = 0
    for start in range(0, len(positions), _CHUNK):
        here, wanted = positions[start : start + _CHUNK], kept[start : start + _CHUNK]
        offsets, columns = store.read_at(here, ["has_teacher"])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        count += int(np.count_nonzero(columns["has_teacher"][within < np.repeat(wanted, np.diff(offsets))]))
    return count
