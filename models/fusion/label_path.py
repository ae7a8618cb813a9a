"""The probability that a source gives to the target's next token, where the two cut the text differently.

Let L be the target's next token (the label), x the text from its first byte on, and s the tokens of the source that may come
next. Carried over by the vocabulary map alone, a source that is sure of the text can teach the target something else:

- a shorter token: it would write `hello` as `hel` + `lo`, and puts its probability on `hel`;
- a longer token: it would write eight blanks at once, where the target's next token has four.

In both cases the probability belongs to L, as far as the text then goes on with L's bytes:

    P(L) = Σ P(s) over s with L ⊑ s ⊑ x   +   P(s₁) · Π P(sₖ | s₁ … sₖ₋₁) where the text's own s₁ is shorter than L

(⊑: begins, in bytes). The product goes along the tokens the text really has, up to the first that reaches L's end; other ways to
write L are not summed, so that it is a lower bound. What is left on s₁ is the probability that another word follows. A token that
begins with L and then leaves the text (` and` where the label is ` a`) stays where the map sends it: the target has, or begins
with, another token there. Mass is moved, never made.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion.distribution import RenamedRows
from models.tokenization.alignment import NO_ROW
from models.tokenization.codec import EncodedText, TokenCodec


@dataclass(frozen=True, slots=True, eq=False)
class LabelPaths:
    """Where a source token begins at the same byte as the target's label.

    Attributes:
        positions: int[n], target positions.
        rows: int[n], the source rows aligned with them.
        onward: float32[n], probability of the source's further tokens up to the label's end, given its first; 1 where its first
            token reaches that far.
    """

    positions: npt.NDArray[np.intp]
    rows: npt.NDArray[np.int32]
    onward: npt.NDArray[np.float32]

    def only(self, kept: npt.NDArray[np.bool_]) -> "LabelPaths":
        """Return some of the paths."""
        return LabelPaths(self.positions[kept], self.rows[kept], self.onward[kept])


def find_label_paths(
    target: EncodedText, source: EncodedText, rows: npt.NDArray[np.int32], ce: npt.NDArray[np.float32]
) -> LabelPaths:
    """Find the source's way to the end of each aligned label; labels behind which it loses text have none.

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
    """Find the source tokens s with L ⊑ s ⊑ x: those that reach at least the label's end and say what the text says.

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
    renamed: RenamedRows,
    paths: LabelPaths,
    *,
    at: npt.NDArray[np.intp],
    own_slot: npt.NDArray[np.bool_],
    own_prob: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
) -> RenamedRows:
    """Move along each path the source token's onward share to the label, in one more column.

    Args:
        renamed: N rows in the target's ids.
        paths: n paths.
        at: int[n], the row of each path among the N.
        own_slot: bool[n, K], where the source's own token stands among its top-k (nowhere: its mass is in the tail).
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
    return RenamedRows(np.hstack([renamed.ids, extra_ids]), np.hstack([probs, extra]), tail)
