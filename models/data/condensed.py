"""Builds a dialogue's own (condensed) knowledge base where the data set publishes none."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from models.data.pseudo_positive import ValueIndex


def fill_up(first: Sequence[int], index: ValueIndex, *, size: int, like: Sequence[str], key: str, domain: str = "") -> list[int]:
    """Return `size` rows (fewer where the knowledge base has no more), ascending, so that the order tells nothing.

    Args:
        first: Rows that belong in, most important first; those beyond `size` are cut.
        index: Values of the knowledge base.
        size: Number of rows.
        like: Texts with the values that the other rows should share: those that have most of them come first.
        key: Decides among equals through a hash with the entity's id, so that not the same entities fill up every dialogue.
        domain: The rows that fill up are of this domain; empty = any.
    """
    chosen = list(dict.fromkeys(first))[:size]
    if len(chosen) < size:
        every = np.array([row for row, e in enumerate(index.kb.entities) if domain in ("", e.domain)], dtype=np.int64)
        shared = index.hits(every, index.values_in(*like))
        taken = set(chosen)
        others = [(-int(hits), _mark(key, index.kb[row].id), row) for row, hits in zip(every.tolist(), shared, strict=True)]
        chosen += [row for *_, row in sorted(others) if row not in taken][: size - len(chosen)]
    return sorted(chosen)


def _mark(key: str, id: str) -> bytes:
    return blake2b(f"{key}/{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
