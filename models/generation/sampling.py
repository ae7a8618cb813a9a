"""Choosing the next token: one uniform number per row and step, so that a row's text does not depend on its batch."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


def sample_seed(seed: int, item_id: str, sample: int) -> int:
    """Return the seed of one answer, 63 bits, from the stage's seed, the prompt's id and the number of the sample."""
    digest = hashlib.sha256(f"{seed}\x00{item_id}\x00{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_uniforms(seeds: Sequence[int], *, steps: int, device: torch.device) -> Tensor:
    """Return float32[B, steps] in [0, 1): row b comes from its own generator, the same on every device."""
    rows = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


class ChooseToken(LogitsProcessor):
    """Masks ids outside the vocabulary and, when sampling, leaves the chosen token as the only possible one.

    `generate` then takes the arg-max. Sampling inverts the cumulative distribution of the nucleus at the row's uniform number:
    the smallest set of tokens whose probabilities sum to at least `top_p`, after division of the logits by `temperature`.

    Attributes:
        broken: bool[B], rows that met a logit that is no number; read it after `generate`.
    """

    def __init__(
        self, *, vocab_rows: int, prompt_length: int, uniforms: Tensor | None, temperature: float = 1.0, top_p: float = 1.0
    ) -> None:
        self._vocab_rows = vocab_rows
        self._prompt_length = prompt_length
        self._uniforms = uniforms
        self._temperature = temperature
        self._top_p = top_p
        self.broken: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Map scores float32[B, V] to scores whose arg-max is the next token."""
        real = scores[:, : self._vocab_rows]
        bad = real.isnan().any(dim=-1)
        self.broken = bad if self.broken is None else self.broken | bad
        if self._uniforms is None and self._vocab_rows == scores.shape[1]:
            return scores
        masked = torch.full_like(scores, float("-inf"))
        if self._uniforms is None:
            masked[:, : self._vocab_rows] = real
            return masked
        step = input_ids.shape[1] - self._prompt_length
        chosen = pick(real / self._temperature, self._uniforms[:, step], top_p=self._top_p)
        return masked.scatter_(1, chosen[:, None], 0.0)


def pick(logits: Tensor, uniforms: Tensor, *, top_p: float) -> Tensor:
    """Sample one id per row from logits [B, V] by the uniform numbers [B]; returns int64[B]."""
    probs, ids = torch.softmax(logits.float(), dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative = probs.cumsum(dim=-1)
    kept = (cumulative - probs < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(1, kept - 1)
    rank = (cumulative <= uniforms[:, None] * mass).sum(dim=-1, keepdim=True)
    return ids.gather(1, torch.minimum(rank, kept - 1)).squeeze(1)
