"""Transfer of sparse distributions to the target's vocabulary, and to its next token where the tokenizations differ."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR
from models.tokenization.alignment import NO_ROW
from models.tokenization.codec import EncodedText, TokenCodec
from models.tokenization.vocab_map import UNMAPPED, VocabMap

Ids = npt.NDArray[np.int32]
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MappedRows:
    """Rows in the target's ids, before probabilities of equal ids are summed.

    Attributes:
        ids: int32[T, K], -1 if the target has no such token.
        probs: float32[T, K].
        tail: float32[T], probability outside the K slots.
    """

    ids: Ids
    probs: Probs
    tail: Probs


def map_rows(
    topk_ids: npt.NDArray[np.integer],
    topk_logprobs: npt.NDArray[np.floating],
    tail: npt.NDArray[np.floating],
    vocab_map: VocabMap | None,
) -> MappedRows:
    """Map a source's top-k to the target's ids, leaving duplicate ids to `merge_duplicates`.

    Args:
        topk_ids: [T, K] ids of the source.
        topk_logprobs: [T, K], nats; `PAD_LOGPROB` marks unused slots.
        tail: [T], log of the mass outside the top-k.
        vocab_map: Source to target; None if both have the same vocabulary.
    """
    ids = np.asarray(topk_ids).astype(np.int32)
    if vocab_map is not None:
        # A model's head may be wider than its tokenizer: rows beyond the vocabulary stand for no token.
        known = ids < len(vocab_map.ids)
        ids = np.where(known, vocab_map.ids[np.where(known, ids, 0)], np.int32(UNMAPPED))
    used = topk_logprobs > PAD_LOGPROB
    probs = np.where(used, np.exp(topk_logprobs.astype(np.float32)), np.float32(0))
    return MappedRows(np.where(used, ids, np.int32(UNMAPPED)), probs, np.exp(tail.astype(np.float32)))


def merge_duplicates(
    rows: MappedRows, *, top_k: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Sum the probabilities of equal ids in each row and keep the `top_k` most probable; no mass is lost.

    Unmapped tokens, and those beyond `top_k`, go to the tail.

    Returns:
        ids uint32[T, top_k], distinct in each row; log-probabilities float16[T, top_k], descending, unused slots 0 and
        `PAD_LOGPROB`; tail float16[T], at least `TAIL_FLOOR`.
    """
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
    """Put the sum of each run of equal ids (rows are sorted) into its first slot, and 0 into the others."""
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


@dataclass(frozen=True, slots=True, eq=False)
class LabelPaths:
    """Positions where a source token begins at the same byte as the target's label.

    Attributes:
        positions: int[n], target positions.
        rows: int[n], the source rows aligned with them.
        onward: float32[n], probability of the source's further tokens up to the label's end, given its first; 1 if its first
            token reaches that far.
    """

    positions: npt.NDArray[np.intp]
    rows: npt.NDArray[np.int32]
    onward: npt.NDArray[np.float32]

    def only(self, kept: npt.NDArray[np.bool_]) -> "LabelPaths":
        """Return the paths selected by a mask."""
        return LabelPaths(self.positions[kept], self.rows[kept], self.onward[kept])


def find_label_paths(
    target: EncodedText, source: EncodedText, rows: npt.NDArray[np.int32], ce: npt.NDArray[np.float32]
) -> LabelPaths:
    """Find the source tokens up to the end of each aligned label; labels within which it loses text have none.

    Args:
        target: The response in the target's tokens.
        source: The same in the source's.
        rows: int32[T_target] or one more (the end's), as `align_starts` gives it.
        ce: float32[T_source] or one more, the source's −log p of its own tokens.
    """
    first = rows[: len(target.ends)]
    size = len(source.ends)
    positions = np.flatnonzero((first != NO_ROW) & (first < size))
    starts = first[positions]
    stops = np.maximum(np.searchsorted(source.ends, target.ends[positions], side="left"), starts)
    kept = stops < size
    if source.lossy.any():
        wrong = np.concatenate([[0], np.cumsum(source.lossy)])
        kept &= wrong[np.minimum(stops, size - 1) + 1] == wrong[starts]
    positions, starts, stops = positions[kept], starts[kept], stops[kept]
    costs = np.concatenate([[0.0], np.cumsum(ce[:size], dtype=np.float64)])
    onward = np.exp(costs[starts + 1] - costs[stops + 1]).astype(np.float32)
    return LabelPaths(positions, starts, onward)


def covering_slots(
    topk_ids: npt.NDArray[np.integer],
    paths: LabelPaths,
    target: EncodedText,
    source: EncodedText,
    *,
    text: bytes,
    codec: TokenCodec,
) -> npt.NDArray[np.bool_]:
    """Find the source tokens s with L ⊑ s ⊑ x: those that reach at least the label's end and agree with the text.

    Args:
        topk_ids: [n, K], the source's tokens of each path's row.
        paths: n paths.
        target: The response in the target's tokens.
        source: The same in the source's.
        text: UTF-8 bytes of the source's lead and the response.
        codec: The source's tokenizer.

    Returns:
        bool[n, K].
    """
    begins = source.starts[paths.rows]
    needed = target.ends[paths.positions] - begins
    known = topk_ids < codec.vocab_size
    ids = np.where(known, topk_ids, 0).astype(np.int64)
    found: npt.NDArray[np.bool_] = known & (codec.byte_lengths[ids] >= np.maximum(needed, 1)[:, None])
    # Nearly all others differ in their first byte already.
    found &= codec.first_bytes[ids] == np.frombuffer(text + b"\0", np.uint8)[begins + source.lead][:, None]
    rows, slots = np.nonzero(found)
    where = (begins[rows] + source.lead).tolist()
    pieces = (codec.token_bytes[i] or b"" for i in ids[rows, slots].tolist())
    found[rows, slots] = [text.startswith(piece, at) for piece, at in zip(pieces, where, strict=True)]
    return found


def move_to_labels(
    renamed: MappedRows,
    paths: LabelPaths,
    *,
    at: npt.NDArray[np.intp],
    own_slot: npt.NDArray[np.bool_],
    own_prob: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
) -> MappedRows:
    """Move along each path the source token's onward share to the label, in one more column.

    Args:
        renamed: N rows in the target's ids.
        paths: n paths.
        at: int[n], the row of each path among the N.
        own_slot: bool[n, K], slot of the source's own token in its top-k (none: its mass is in the tail).
        own_prob: float32[n], the source's probability of its own token.
        labels: int32[n], the target's tokens.
    """
    probs, tail = renamed.probs.copy(), renamed.tail.copy()
    inside = own_slot.any(axis=1)
    slots = own_slot.argmax(axis=1)
    stored = np.where(inside, probs[at, slots], np.minimum(own_prob, tail[at]))
    moved = (stored * paths.onward).astype(np.float32)
    probs[at[inside], slots[inside]] -= moved[inside]
    tail[at[~inside]] -= moved[~inside]
    extra_ids = np.full((len(probs), 1), -1, np.int32)
    extra = np.zeros((len(probs), 1), np.float32)
    extra_ids[at, 0], extra[at, 0] = labels, moved
    return MappedRows(np.hstack([renamed.ids, extra_ids]), np.hstack([probs, extra]), tail)
