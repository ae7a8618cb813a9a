"""Which row goes where: by keyed hashes of its content, so that adding rows, sets or files moves no other row.

All decisions are taken on 64-bit digests (8 bytes a row and column), never on the texts, so memory hardly grows with the corpus.
"""

import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from models.schema import Example, Message

Digests = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

TRAIN, VALID, TEST = 0, 1, 2


def normalise(text: str) -> str:
    """Return the text as it counts for equality: compatible forms unified, case folded, blanks collapsed; punctuation stays."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Folding can undo the unification: without the second pass a normalised text would not always normalise to itself.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def digest(text: str, *, seed: int, purpose: str) -> int:
    """Return a 64-bit keyed hash; independent for every seed and purpose.

    Among a million rows the chance of any collision is 3 in 10^8.
    """
    key = f"{purpose}/{seed}".encode()
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def prompt_digest(messages: Sequence[Message], *, seed: int) -> int:
    """Hash a prompt after normalisation; equal prompts land in the same split whatever their responses."""
    text = "\x1e".join(f"{m.role}\x1f{normalise(m.content)}" for m in messages)
    return digest(text, seed=seed, purpose="split")


def content_digest(example: Example, *, seed: int) -> int:
    """Hash prompt and response: finds duplicates, and picks the rows of a `limit` (independently of the split)."""
    parts = [f"{m.role}\x1f{m.content}" for m in example.messages]
    return digest("\x1e".join([*parts, example.response]), seed=seed, purpose="content")


def assign_splits(prompts: Digests, *, valid_fraction: float, test_fraction: float) -> npt.NDArray[np.uint8]:
    """Return TRAIN, VALID or TEST for each prompt digest; raising a fraction only ever moves rows into that split.

    The test takes the lowest digests, validation the highest, so neither's share moves the other's rows.
    """
    place = prompts / 2.0**64
    return np.where(place < test_fraction, TEST, np.where(place > 1 - valid_fraction, VALID, TRAIN)).astype(np.uint8)


def repeated(digests: Digests) -> Mask:
    """Mark every row whose digest stands in an earlier row."""
    mark = np.ones(len(digests), dtype=np.bool_)
    mark[np.unique(digests, return_index=True)[1]] = False
    return mark


def beyond_limit(digests: Digests, kept: Mask, limit: int | None) -> Mask:
    """Mark the kept rows that a limit leaves out: all but the `limit` lowest digests."""
    mark = np.zeros(len(digests), dtype=np.bool_)
    rows = np.flatnonzero(kept)
    if limit is not None and len(rows) > limit:
        mark[rows[np.argsort(digests[rows], kind="stable")[limit:]]] = True
    return mark


def leaked(prompts: Digests, splits: npt.NDArray[np.uint8], kept: Mask) -> Mask:
    """Mark kept training rows whose prompt is held out, and kept validation rows whose prompt is in the test."""
    held_out = [prompts[kept & (splits == s)] for s in (VALID, TEST)]
    in_test = np.isin(prompts, held_out[1])
    in_valid = np.isin(prompts, held_out[0])
    marked = (splits == TRAIN) & (in_valid | in_test) | (splits == VALID) & in_test
    return np.asarray(kept & marked)
