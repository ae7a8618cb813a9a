"""Pools of prompts by mode, and the seeded batches that steps of a schedule take from them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptPools:
    """Prompts by available samples, each int64[·], ascending.

    Attributes:
        train: Prompts with a ground truth.
        infer: Prompts with a winning answer.
        either: Prompts with one of the two.
    """

    train: Ints
    infer: Ints
    either: Ints

    @classmethod
    def of(cls, *, train: Ints, infer: Ints) -> "PromptPools":
        """Build from the prompts of each mode."""
        return cls(train, infer, np.union1d(train, infer).astype(np.int64))

    @property
    def num_infer_only(self) -> int:
        """Prompts with a winning answer alone."""
        return len(self.either) - len(self.train)

    @classmethod
    def whole(cls, num_prompts: int) -> "PromptPools":
        """Return the pools of prompts that have both."""
        everyone = np.arange(num_prompts, dtype=np.int64)
        return cls(everyone, everyone, everyone)


def epoch_batch(pool: Ints, at: int, *, batch_size: int, seed: int, stream: int) -> Ints:
    """Return batch `at` (from 0) of endless epochs over a pool, int64[b], b ≤ `batch_size`.

    Every epoch is a separate permutation, seeded by (seed, epoch, stream) and cut into batches; only the last batch of an epoch
    may be smaller.
    """
    epoch, batch = divmod(at, -(-len(pool) // batch_size))
    order = _permutation(len(pool), seed, epoch, stream)
    return pool[order[batch * batch_size : (batch + 1) * batch_size]]


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int, stream: int) -> Ints:
    return np.random.default_rng([seed, epoch, stream] if stream else [seed, epoch]).permutation(size)
