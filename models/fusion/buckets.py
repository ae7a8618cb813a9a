"""A teacher's sparse distribution as buckets: its top-k tokens and one bucket for the rest of the vocabulary.

Both sides of the divergence are read on the same K + 1 buckets. The temperature acts on the buckets, tail included, of both
sides (softmax(log p / T)): the teacher's tail is known only as one mass, and any other reading would make the divergence of
equal distributions positive. At T = 1 this is the plain top-k KL with a tail bucket; no T² factor is applied.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.fusion.signals.record import PAD_LOGPROB

TailMode = Literal["bucket", "renormalise"]
_PADDED_BELOW = PAD_LOGPROB + 1.0


def negligible_logit(dtype: torch.dtype) -> float:
    """Return a logit far below any real one: acts like −inf in sums, without its NaNs."""
    return torch.finfo(dtype).min / 8


@dataclass(frozen=True, slots=True, eq=False)
class TeacherRows:
    """Distributions of the selected source at N rows, in the target's tokens.

    Attributes:
        ids: int64[N, K], distinct within a row; slots whose log-probability is `PAD_LOGPROB` are unused, and their id is ignored.
        logprobs: float32[N, K], nats, normalised over the full vocabulary, in any order.
        tail: float32[N], log of the mass outside the top-k.
        has: bool[N], whether there is a teacher; the other fields of a row without one are ignored.
    """

    ids: Tensor
    logprobs: Tensor
    tail: Tensor
    has: Tensor

    def __getitem__(self, rows: slice) -> "TeacherRows":
        return TeacherRows(self.ids[rows], self.logprobs[rows], self.tail[rows], self.has[rows])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "TeacherRows":
        fields = (self.ids, self.logprobs, self.tail, self.has)
        return TeacherRows(*(field.to(device, non_blocking=non_blocking) for field in fields))


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """The buckets of n rows.

    Attributes:
        ids: int64[n, K], always valid vocabulary ids: unused slots repeat a used one.
        used: bool[n, K], slots that stand for a token (at least one per row).
        first: int64[n, 1], the slot that unused ones repeat.
        log_p: float[n, K + 1], the teacher's tempered log-probabilities, tail last; −inf where it has no mass.
        active: bool[n], rows with a teacher.
    """

    ids: Tensor
    used: Tensor
    first: Tensor
    log_p: Tensor
    active: Tensor


def teacher_buckets(
    teacher: TeacherRows, fallback: Tensor, *, vocab_size: int, temperature: float, tail: TailMode, dtype: torch.dtype
) -> Buckets:
    """Convert teacher rows to buckets.

    Args:
        teacher: n rows.
        fallback: int64[n], the only id of rows without a teacher.
        vocab_size: V of the student; a top-k that covers it leaves no tail.
        temperature: T, applied to the buckets.
        tail: `bucket` keeps the tail's mass and scales the top-k to 1 − tail (rounding moved it); `renormalise` scales the
            top-k to 1, as FuseLLM does, so that all student mass outside it counts as error.
        dtype: Of the result.
    """
    used = (teacher.logprobs > _PADDED_BELOW) & teacher.has[:, None]
    active = used.any(dim=1)
    used[:, 0] |= ~active
    first = used.int().argmax(dim=1, keepdim=True)
    filler = torch.where(active, teacher.ids.gather(1, first)[:, 0], fallback)
    ids = torch.where(used & active[:, None], teacher.ids, filler[:, None])
    top = teacher.logprobs.to(dtype).masked_fill(~used, -torch.inf).masked_fill(~active[:, None], 0.0)
    top = top - top.logsumexp(dim=1, keepdim=True)
    rest = teacher.tail.to(dtype).clamp(max=0.0)
    if tail == "renormalise":
        rest = torch.full_like(rest, -torch.inf)
    # A top-k of the whole vocabulary (or a row without a teacher, which may hold anything) has no tail to speak of.
    rest = rest.masked_fill((used.sum(dim=1) >= vocab_size) | ~active, -torch.inf)[:, None]
    log_p = torch.cat([top + torch.log(-torch.expm1(rest)), rest], dim=1)
    return Buckets(ids, used, first, apply_temperature(log_p, temperature), active)


def apply_temperature(log_probs: Tensor, temperature: float) -> Tensor:
    """Return log softmax(log p / T) over the buckets."""
    return log_probs if temperature == 1.0 else torch.log_softmax(log_probs / temperature, dim=1)


def bucket_kl(log_p: Tensor, log_q: Tensor, active: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row, float[n], nats; 0 where `active` is False. Buckets without teacher mass count 0."""
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), torch.zeros_like(p))
    return torch.where(active, terms.sum(dim=1), torch.zeros_like(terms[:, 0]))
