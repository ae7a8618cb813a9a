"""Sparse distributions carried over to the target's vocabulary. Rows are positions (T), columns top-k slots (K)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion.signal_record import PAD_LOGPROB, TAIL_FLOOR
from models.tokenization.vocab_map import UNMAPPED, VocabMap

Ids = npt.NDArray[np.int32]
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RenamedRows:
    """Rows in the target's ids before equal ids are added up.

    Attributes:
        ids: int32[T, K], -1 where the target has no such token.
        probs: float32[T, K].
        tail: float32[T], probability outside the K slots.
    """

    ids: Ids
    probs: Probs
    tail: Probs


def map_topk(
    topk_ids: npt.NDArray[np.integer],
    topk_logprobs: npt.NDArray[np.floating],
    tail: npt.NDArray[np.floating],
    vocab_map: VocabMap | None,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Rename a source's top-k to the target's tokens; no probability is lost.

    Source tokens that share a target token add up, tokens without one go to the tail.

    Args:
        topk_ids: [T, K] ids of the source.
        topk_logprobs: [T, K], nats; `PAD_LOGPROB` marks unused slots.
        tail: [T], log of the mass outside the top-k.
        vocab_map: Source to target; None where both have the same vocabulary.

    Returns:
        ids uint32[T, K], distinct in each row; log-probabilities float16[T, K], descending, unused slots 0 and `PAD_LOGPROB`;
        tail float16[T], at least `TAIL_FLOOR`.
    """
    return merge(rename(topk_ids, topk_logprobs, tail, vocab_map), top_k=topk_ids.shape[1])


def rename(
    topk_ids: npt.NDArray[np.integer],
    topk_logprobs: npt.NDArray[np.floating],
    tail: npt.NDArray[np.floating],
    vocab_map: VocabMap | None,
) -> RenamedRows:
    """Take the first half of `map_topk`: other ids, no sums yet."""
    ids = np.asarray(topk_ids).astype(np.int32)
    if vocab_map is not None:
        # A model's head may be wider than its tokenizer: rows beyond the vocabulary stand for no token.
        known = ids < len(vocab_map.ids)
        ids = np.where(known, vocab_map.ids[np.where(known, ids, 0)], np.int32(UNMAPPED))
    used = topk_logprobs > PAD_LOGPROB
    probs = np.where(used, np.exp(topk_logprobs.astype(np.float32)), np.float32(0))
    return RenamedRows(np.where(used, ids, np.int32(UNMAPPED)), probs, np.exp(tail.astype(np.float32)))


def merge(rows: RenamedRows, *, top_k: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Add up equal ids of each row and keep the `top_k` most probable; the rest joins the tail. Returns as `map_topk`."""
    if rows.ids.size == 0:
        return _empty(len(rows.ids), top_k)
    order = np.argsort(rows.ids, axis=1, kind="stable")
    ids = np.take_along_axis(rows.ids, order, axis=1)
    probs = _sum_runs(ids, np.take_along_axis(rows.probs, order, axis=1))
    mapped = ids != UNMAPPED
    outside = np.where(mapped, 0, probs).sum(axis=1)
    probs = np.where(mapped, probs, np.float32(0))
    # Stable: of equal probabilities the lower id comes first, on every machine.
    order = np.argsort(-probs, axis=1, kind="stable")
    ids, probs = np.take_along_axis(ids, order, axis=1), np.take_along_axis(probs, order, axis=1)
    tail = rows.tail + outside + probs[:, top_k:].sum(axis=1)
    return _as_logs(ids[:, :top_k], probs[:, :top_k], tail)


def _sum_runs(ids: Ids, probs: Probs) -> Probs:
    """Put the sum of each run of equal ids (rows are sorted) on its first slot, and 0 on the others."""
    first = np.ones(ids.shape, np.bool_)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    if first.all():
        return probs
    sums = np.zeros_like(probs)
    starts = np.flatnonzero(first)
    sums.ravel()[starts] = np.add.reduceat(probs.ravel(), starts)
    return sums


def _as_logs(
    ids: Ids, probs: Probs, tail: Probs
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    used = probs > 0
    logs = np.log(probs, where=used, out=np.full(probs.shape, PAD_LOGPROB, np.float32))
    logs = np.clip(logs, PAD_LOGPROB, 0.0).astype(np.float16)
    floor = np.exp(np.float32(TAIL_FLOOR))
    log_tail = np.log(np.clip(tail, floor, 1.0)).clip(TAIL_FLOOR, 0.0).astype(np.float16)
    return np.where(used, ids, 0).astype(np.uint32), logs, log_tail


def _empty(num_rows: int, top_k: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    shape = (num_rows, top_k)
    return np.zeros(shape, np.uint32), np.full(shape, PAD_LOGPROB, np.float16), np.zeros(num_rows, np.float16)
