"""Likeness of answers to the ground truth by a sentence encoder: a voter that forgives another wording."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from models.errors import NumericsError
from models.generation.batching import plan_batches
from models.generation.prompts import TextItem
from models.retrieval.encoder_folder import find_encoder, load_encoder
from models.retrieval.pooling import Tower
from models.retrieval.sentence_encoder import own_pooling
from models.retrieval.tokenising import TextTokeniser

_LONGEST = 512  # tokens of a text, where the encoder has positions for more


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """An encoder on a device, in evaluation mode: token states pooled as the encoder says (else averaged) to length 1.

    Attributes:
        name: How it was named, for errors.
        tower: Transformer and pooling.
        tokeniser: Its tokenizer.
        max_tokens: Longest text; longer ones lose their end.
    """

    name: str
    tower: Tower
    tokeniser: TextTokeniser
    max_tokens: int


def load_sentence_encoder(name: str, *, revision: str | None, root: Path, device: str, key: str) -> SentenceEncoder:
    """Load the encoder `name`, found as the retriever's is: a folder, `package:<module>`, or a hub name.

    Args:
        name: The encoder.
        revision: Hub revision.
        root: What relative folders start at.
        device: torch device.
        key: Params key, for errors.

    Raises:
        ParamsError: A hub name without a revision.
        SourceError: The encoder cannot be loaded.
    """
    location, found = find_encoder(name, revision=revision, root=root, key=key)
    model, tokeniser = load_encoder(location, revision=found, key=key)
    positions = getattr(model.config, "max_position_embeddings", None)
    longest = min(_LONGEST, positions) if isinstance(positions, int) else _LONGEST
    tower = Tower(model, pooling=own_pooling(location, revision=found) or "mean", projection=0).to(device).eval()
    return SentenceEncoder(name, tower, tokeniser, longest)


def embedding_scores(
    encoder: SentenceEncoder,
    items: Sequence[TextItem],
    references: Sequence[str],
    *,
    batch_size: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Score responses by the cosine between them and the ground truth, −1 to 1.

    Args:
        encoder: The encoder.
        items: Responses.
        references: Ground truth of each.
        batch_size: Texts encoded together, bucketed by length; a text that occurs several times is encoded once.
        on_progress: Called with the number of scored responses.

    Raises:
        NumericsError: A vector is not finite.
    """
    texts = list(dict.fromkeys([*(item.response for item in items), *references]))
    place = {text: i for i, text in enumerate(texts)}
    reps = _embed(encoder, texts, batch_size=batch_size)
    left = reps[[place[item.response] for item in items]]
    right = reps[[place[reference] for reference in references]]
    if on_progress is not None:
        on_progress(len(items))
    # Rounding: the cosine of a text with itself is 1, not a hair more or less than that of another copy of it.
    return [round(float(score), 6) for score in (left * right).sum(axis=1)]


@torch.inference_mode()
def _embed(encoder: SentenceEncoder, texts: Sequence[str], *, batch_size: int) -> npt.NDArray[np.float64]:
    """Return float64[N, D], rows of length 1."""
    device = next(encoder.tower.parameters()).device
    rows = encoder.tokeniser.encode(texts, max_tokens=encoder.max_tokens, drop="right")
    reps = np.zeros((len(rows), encoder.tower.dim))
    for batch in plan_batches([len(row) for row in rows], max_rows=batch_size):
        made = encoder.tower(*encoder.tokeniser.pad([rows[i] for i in batch], device=device))
        reps[batch] = made.float().cpu().numpy()
    if not np.isfinite(reps).all():
        raise NumericsError(f"The vectors of encoder `{encoder.name}` must be finite, but are not. Name another encoder.")
    return reps
