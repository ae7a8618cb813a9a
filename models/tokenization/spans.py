"""Where the tokens of a text end, in bytes, when the tokenizer changed the text on the way."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Spans = Sequence[tuple[int, int]]


def byte_offsets(text: str) -> npt.NDArray[np.int32]:
    """Return, for each character and the end of the text, the byte of its UTF-8 form where it starts."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)


def trace(pieces: Sequence[bytes | None], spans: Spans, text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Follow tokens through the text they came from and find those that do not say what the text says.

    Token t stands for the bytes from the end of token t-1 to its own end. It is lossy when its own bytes differ from those:
    an unknown token, a changed character, or a token after dropped blanks (after a lossy token, what was dropped is its).

    Args:
        pieces: Bytes of each token, None for special tokens.
        spans: First and last+1 character of each token, as the tokenizer reports them (tokens that share a character share
            its span).
        text: The text.

    Returns:
        ends int32[T] in bytes of the UTF-8 text, never decreasing, and lossy bool[T].
    """
    data, at = text.encode(), byte_offsets(text)
    starts, limits = at[[s for s, _ in spans]].tolist(), at[[e for _, e in spans]].tolist()
    ends: list[int] = []
    lossy: list[bool] = []
    here = 0
    for t, piece in enumerate(pieces):
        limit = limits[t]
        if piece and lossy and lossy[-1] and data[starts[t] : limit] == piece:
            here = ends[-1] = max(here, starts[t])  # what fell out belongs to the token that went wrong already
        stop = here + len(piece) if piece else -1
        shared = stop < limit and t + 1 < len(limits) and starts[t + 1] < limit
        exact = data[here:stop] == piece and (stop == limit or shared) if piece else False
        here = stop if exact else max(here, limit)
        ends.append(here)
        lossy.append(not exact)
    return np.array(ends, np.int32), np.array(lossy, np.bool_)
