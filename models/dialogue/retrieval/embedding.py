"""Vectors of many entities or contexts: evaluation mode, no gradient, texts of similar length together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.retrieval.encoder import Retriever

Progress = Callable[[int, int], None]
Reps = npt.NDArray[np.float32]
# Texts whose tokens exist at a time: long enough for batches without padding, short enough for any corpus.
_WINDOW = 4096
# A CPU is as quick with a few texts as with many, so that a batch ends where padding would cost more than a batch saves.
_LONGER, _LONGER_TOKENS = 1.25, 4


def embed_entities(
    retriever: Retriever,
    kb: KnowledgeBase,
    *,
    rows: Sequence[int] | None = None,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    share: tuple[int, int] = (0, 1),
    on_progress: Progress | None = None,
) -> Reps:
    """Return e_reps, float32[N, D], of the given rows (default: the whole knowledge base), in their order.

    Args:
        retriever: Its mode is left as it was; it must be on `device`.
        kb: The entities.
        rows: KB rows.
        batch_size: Texts per forward pass.
        device: Where to compute (default: where the weights are).
        share: (rank, number of processes): this one embeds every so many-th batch and leaves 0 in the rows of the others, so that
            the sum over all is what one alone would return, to the last bit.
        on_progress: Called with (done, total).
    """
    wanted = range(len(kb)) if rows is None else rows

    def tokens(places: range) -> list[list[int]]:
        return retriever.tokenise_entities([retriever.entity_text(kb[wanted[i]]) for i in places])

    settings: dict[str, Any] = {"batch_size": batch_size, "device": device, "share": share, "on_progress": on_progress}
    return _embed(retriever, len(wanted), tokens, "entities", **settings)


def embed_contexts(
    retriever: Retriever,
    contexts: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    on_progress: Progress | None = None,
) -> Reps:
    """Return q_reps, float32[B, D], of dialogue contexts (utterances, oldest first); arguments as `embed_entities`."""

    def tokens(places: range) -> list[list[int]]:
        return retriever.tokenise_contexts([retriever.context_text(contexts[i]) for i in places])

    return _embed(retriever, len(contexts), tokens, "contexts", batch_size=batch_size, device=device, on_progress=on_progress)


def _embed(
    retriever: Retriever,
    total: int,
    tokens: Callable[[range], list[list[int]]],
    side: str,
    *,
    batch_size: int,
    device: torch.device | str | None,
    on_progress: Progress | None,
    share: tuple[int, int] = (0, 1),
) -> Reps:
    encode = retriever.encode_entities if side == "entities" else retriever.encode_contexts
    reps = np.zeros((total, retriever.dim), dtype=np.float32)
    turn, (rank, processes) = count(), share
    done, where = 0, retriever.device if device is None else device
    with evaluating(retriever), torch.inference_mode():
        for start in range(0, total, _WINDOW):
            rows = tokens(range(start, min(start + _WINDOW, total)))
            for places in _batches([len(row) for row in rows], batch_size, even=torch.device(where).type == "cpu"):
                if next(turn) % processes != rank:
                    continue
                batch = encode(*retriever.pad([rows[i] for i in places], device))
                reps[start + np.array(places)] = batch.float().cpu().numpy()
                done += len(places)
                if on_progress is not None:
                    on_progress(done, total)
    return reps


def _batches(lengths: Sequence[int], most: int, *, even: bool) -> Iterator[list[int]]:
    """Yield the places of texts in batches of at most `most`, short texts first; `even` ones have similar lengths throughout."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        longest = _LONGER * lengths[batch[0]] + _LONGER_TOKENS if batch and even else float("inf")
        if len(batch) == most or lengths[place] > longest:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@contextmanager
def evaluating(retriever: Retriever) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = retriever.training
    retriever.eval()
    try:
        yield
    finally:
        retriever.train(training)
