"""Log-probabilities of given tokens without keeping the logits of all of them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits made at a time: 64 MiB in float32.
_CHUNK = 1 << 24


def token_logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk: int = _CHUNK) -> Tensor:
    """Return log softmax(hidden @ weightᵀ) at the labels, in float32 also under autocast.

    Logits are made a chunk of rows at a time. If there is more than one chunk and gradients are wanted, the backward pass makes
    them again: [N, V] never lies in memory.

    Args:
        hidden: Last decoder states, scaled as the head wants them, [N, D].
        weight: Of the head, [V, D].
        labels: int64[N].
        chunk: Most logits at a time (at least a row).

    Returns:
        float32[N].
    """
    rows = max(1, chunk // weight.shape[0])
    if len(hidden) <= rows:
        return _logprobs(hidden, weight, labels)
    parts = []
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows], weight, labels[start : start + rows]
        parts.append(checkpoint(_logprobs, *part, use_reentrant=False) if torch.is_grad_enabled() else _logprobs(*part))
    return torch.cat(parts)


def _logprobs(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return -F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="none")
