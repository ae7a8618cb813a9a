"""One side of the retriever: transformer, pooling, projection, unit length."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

Pooling = Literal["mean", "cls", "max", "last"]


def pool(states: Tensor, mask: Tensor, kind: Pooling) -> Tensor:
    """Make one vector of the token states.

    Args:
        states: float[B, T, D].
        mask: int64[B, T], 1 at tokens, 0 at padding; every row has a token.
        kind: `mean` or `max` over the tokens, or the state of the first (`cls`) or `last` one.

    Returns:
        float[B, D].
    """
    if kind == "cls":
        return states[:, 0]
    if kind == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    if kind == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


class Tower(nn.Module):
    """An encoder with its pooling and, if `projection` > 0, a dense layer with tanh (as MAKER's, 128 wide)."""

    def __init__(self, encoder: PreTrainedModel, *, pooling: Pooling, projection: int) -> None:
        """Wrap `encoder`; the dense layer is drawn from torch's global generator."""
        super().__init__()
        self.encoder = encoder
        self.pooling: Pooling = pooling
        width = int(encoder.config.hidden_size)
        self.dense = nn.Linear(width, projection) if projection else None
        self.dim = projection or width

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors, float32[B, D], of input_ids int64[B, T] (under autocast, too)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = pool(states.float(), attention_mask, self.pooling)
        if self.dense is not None:
            pooled = torch.tanh(self.dense(pooled))
        return F.normalize(pooled.float(), dim=-1)
