"""Token alignment: which row of a source supervises which row of the target.

Row t of either side predicts token t from the text before it; the row of the end token comes last. A distribution may
be transferred only between rows that predict from the same position in the text.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from models.errors import AlignmentError
from models.tokenization.codec import EncodedText, TokenCodec
from models.tokenization.edit_distance import distances, dynamic_time_warp
from models.tokenization.vocab_map import VocabMap

Rows = npt.NDArray[np.int32]
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts of the target's positions by supervision (including end tokens, except of truncated texts).

    Attributes:
        num_positions: All positions.
        num_aligned: Supervised by a row of the source.
        num_lossy: Unsupervised, because a tokenizer does not reproduce the text there.
        num_fallback: Supervised by a one-hot on the next token instead.
        num_cut: Truncated texts, which have no end token and so no position for it.
    """

    num_positions: int = 0
    num_aligned: int = 0
    num_lossy: int = 0
    num_fallback: int = 0
    num_cut: int = 0

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(
            self.num_positions + other.num_positions,
            self.num_aligned + other.num_aligned,
            self.num_lossy + other.num_lossy,
            self.num_fallback + other.num_fallback,
            self.num_cut + other.num_cut,
        )

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def align_starts(target: EncodedText, source: EncodedText) -> Rows:
    """Align by bytes: each target row with the source row that predicts from the same start byte.

    Args:
        target: The response in the target's tokens (T_target).
        source: The same response in the source's tokens (T_source).

    Returns:
        int32[T_target + 1] of source rows, the end token's last on both sides (T_source); -1 where no source token starts
        at that byte, and at lossy positions.

    Raises:
        AlignmentError: The two encode texts of different length.
    """
    _check_same_text(target, source)
    starts = source.starts
    wanted = target.starts
    # "right" finds the last row of several with the same start: the others predict tokens without bytes.
    rows = np.searchsorted(starts, wanted, side="right").astype(np.int32) - np.int32(1)
    hit = (starts[rows] == wanted) & (rows >= 0)
    if not (target.lossless and source.lossless):
        hit &= ~lossy_rows(target, source)
    return np.where(hit, rows, np.int32(NO_ROW))


def first_byte_rows(target: EncodedText, source: EncodedText) -> tuple[int, int] | None:
    """Return the rows that predict the first byte of the response, or None if a tokenizer loses it.

    They start at different bytes if the templates' leads differ (`▁Hello` after `ASSISTANT:`, `Hello` after a line break),
    but are equivalent, because the lead is fixed by the template.
    """
    rows = [int(np.searchsorted(side.starts, 0, side="right")) - 1 for side in (target, source)]
    if min(rows) < 0 or lossy_rows(target, source)[rows[0]]:
        return None
    return rows[0], rows[1]


def lossy_rows(target: EncodedText, source: EncodedText) -> npt.NDArray[np.bool_]:
    """Return bool[T_target + 1]: rows that cannot be supervised because one of the tokenizers loses text there.

    This holds where the target's token is lossy, where the row starts within bytes that the source does not reproduce, and at
    the end token if either side drops the end of the text.
    """
    lossy = np.append(target.lossy, not (target.reaches_end and source.reaches_end))
    if not source.lossless:
        inside = np.searchsorted(source.ends, target.starts[:-1], side="right")
        lossy[:-1] |= np.append(source.lossy, not source.reaches_end)[inside]
    return lossy


def align_min_edit(
    target: EncodedText,
    source: EncodedText,
    *,
    target_codec: TokenCodec,
    source_codec: TokenCodec,
    vocab_map: VocabMap | None = None,
) -> Rows:
    """Align by token strings, as FuseLLM's MinED (`soft`) does: dynamic time warping over edit distances.

    The cost of a pair is the edit distance of the tokens without word-start characters. Target token t is accepted as source
    token j if the path pairs it with j alone, and both are the same string (word-start characters exchanged) or `vocab_map`
    sends one to the other.

    In FuseLLM, row t holds what follows token t, so accepting (t, j) gives the distribution *after* j to the position
    *after* t. Here row t predicts token t itself, so the pair fills row t+1 with source row j+1; row 0, where both sides are
    at the start of the response, is always aligned. FuseLLM's fallback put the one-hot for row t+1 on token t (which
    taught the student to repeat it); with these indices the one-hot of row t on token t is the next token, as intended.

    Returns:
        int32[T_target + 1] like `align_starts`; lossy positions are -1.

    Raises:
        AlignmentError: The two encode texts of different length.
    """
    _check_same_text(target, source)
    rows = np.full(len(target.ids) + 1, NO_ROW, np.int32)
    rows[0] = 0
    source_kinds, source_codes = np.unique(source.ids, return_inverse=True)
    target_kinds, target_codes = np.unique(target.ids, return_inverse=True)
    costs = distances(_bare(source_kinds, source_codec), _bare(target_kinds, target_codec))
    path = np.array(dynamic_time_warp(costs, source_codes, target_codes), np.int32).reshape(-1, 2)
    js, ts = path[:, 0], path[:, 1]
    alone = np.bincount(ts, minlength=len(target.ids))[ts] == 1
    same = _same_strings(source_kinds, target_kinds, source_codec, target_codec)[source_codes[js], target_codes[ts]]
    if vocab_map is not None:
        same |= vocab_map.ids[source.ids[js]] == target.ids[ts]
    accepted = alone & same
    rows[ts[accepted] + 1] = js[accepted] + 1
    rows[lossy_rows(target, source)] = NO_ROW
    return rows


def _check_same_text(target: EncodedText, source: EncodedText) -> None:
    if target.num_bytes != source.num_bytes:
        raise AlignmentError(
            f"Both sides of an alignment must encode the same text, but one has {target.num_bytes} bytes and the other "
            f"{source.num_bytes}. Encode the same response on both sides."
        )


def _bare(kinds: npt.NDArray[np.int32], codec: TokenCodec) -> list[str]:
    start = codec.word_start
    return [codec.pieces[i].replace(start, "") if start else codec.pieces[i] for i in kinds.tolist()]


def _same_strings(
    source_kinds: npt.NDArray[np.int32], target_kinds: npt.NDArray[np.int32], source: TokenCodec, target: TokenCodec
) -> npt.NDArray[np.bool_]:
    code: dict[str, int] = {}
    start = source.word_start
    exchanged = [source.pieces[i].replace(start, target.word_start) if start else source.pieces[i] for i in source_kinds]
    return np.equal.outer(_codes(exchanged, code), _codes([target.pieces[i] for i in target_kinds], code))


def _codes(names: Sequence[str], code: dict[str, int]) -> npt.NDArray[np.int64]:
    return np.array([code.setdefault(name, len(code)) for name in names], np.int64)
