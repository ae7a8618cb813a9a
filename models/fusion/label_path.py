"""Probability of the target's next token where the source needs several tokens for it.

A source that would write `hello` as `hel` + `lo` puts its probability on `hel`. Carried over as it is, it would teach the
target to begin with `hel` although the target's own next token is `hello`. The source's cross-entropies tell how it goes on:
P(hello) = P(hel) · P(lo | hel) along the tokens the text really has. That share moves to the target's token; what is left on
`hel` is the probability that another word follows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion.distribution import RenamedRows
from models.tokenization.alignment import NO_ROW
from models.tokenization.codec import EncodedText


@dataclass(frozen=True, slots=True, eq=False)
class LabelPaths:
    """Where the source takes several tokens for one of the target's.

    Attributes:
        positions: int[n], target positions.
        rows: int[n], the source rows aligned with them.
        onward: float32[n], probability of the source's further tokens, given its first.
    """

    positions: npt.NDArray[np.intp]
    rows: npt.NDArray[np.int32]
    onward: npt.NDArray[np.float32]


def find_label_paths(
    target: EncodedText, source: EncodedText, rows: npt.NDArray[np.int32], ce: npt.NDArray[np.float32]
) -> LabelPaths:
    """Find the positions whose target token ends behind the aligned source token.

    A source token that reaches beyond the end of the target's counts in full: the sum over all its continuations would be
    at least that, so that the moved share is a lower bound there.

    Args:
        target: The response in the target's tokens.
        source: The same in the source's.
        rows: int32[T_target + 1], as `align_starts` gives it.
        ce: float32[T_source + 1], the source's −log p of its own tokens.
    """
    first = rows[:-1]
    size = len(source.ends)
    longer = (first != NO_ROW) & (first < size)
    longer[longer] = source.ends[first[longer]] < target.ends[longer]
    positions = np.flatnonzero(longer)
    starts = first[positions]
    stops = np.searchsorted(source.ends, target.ends[positions], side="left")
    kept = stops < size
    if source.lossy.any():
        wrong = np.concatenate([[0], np.cumsum(source.lossy)])
        kept &= wrong[np.minimum(stops, size - 1) + 1] == wrong[starts]
    positions, starts, stops = positions[kept], starts[kept], stops[kept]
    costs = np.concatenate([[0.0], np.cumsum(ce[:size], dtype=np.float64)])
    onward = np.exp(costs[starts + 1] - costs[stops + 1]).astype(np.float32)
    return LabelPaths(positions, starts, onward)


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
