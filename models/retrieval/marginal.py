"""The marginal likelihood of a response over the retrieved entities (eq. 4–6 of MK-TOD)."""

from typing import Literal

import torch
from torch import Tensor

Marginal = Literal["sequence", "token", "sequence_norm"]


def log_marginal(
    scores: Tensor,
    token_logprobs: Tensor,
    token_mask: Tensor,
    *,
    entity_mask: Tensor,
    temperature: Tensor | float,
    form: Marginal = "sequence",
) -> Tensor:
    """Return log p(r|c) with p(r|c) = Σ_i q_i · p(r|c, e_i) and q = softmax(s/τ) over the retrieved entities.

    The forms, with |r| the tokens of a response: `sequence` is eq. 4 and 5 over whole responses, logsumexp(log q_i + a_i);
    `token` marginalises every token (EMDR2), (1/|r|) Σ_j logsumexp(log q_i + a_ij); `sequence_norm` takes a response by
    its likelihood per token, logsumexp(log q_i + a_i/|r|). L_MML (eq. 6) is the mean of −log p(r|c) over turns.

    Args:
        scores: s, [B, K].
        token_logprobs: a_ij = log p(r_j | r_<j, c, e_i), [B, K, T].
        token_mask: bool[B, T], True at tokens of the response.
        entity_mask: bool[B, K], True at entities; what stands elsewhere is not read.
        temperature: τ of q.
        form: See above.

    Returns:
        float32[B] (float64 for float64 inputs), nats; 0, without gradient, for turns without entities.
    """
    log_q = entity_log_probs(scores, entity_mask, temperature=temperature)
    if form == "token":
        logprobs = _inside(token_logprobs, token_mask, entity_mask)
        marginal = torch.logsumexp(log_q[:, :, None] + logprobs, dim=1)
        total = (marginal * token_mask).sum(dim=1) / num_tokens(token_mask, like=marginal)
    else:
        likelihoods = response_logprobs(token_logprobs, token_mask, entity_mask, per_token=form == "sequence_norm")
        total = torch.logsumexp(log_q + likelihoods, dim=1)
    return torch.where(entity_mask.any(dim=1), total, torch.zeros_like(total))


def entity_log_probs(scores: Tensor, entity_mask: Tensor, *, temperature: Tensor | float) -> Tensor:
    """Return log q = log softmax(s/τ) over the entities, [B, K]; −inf where the mask is False.

    A row without entities is uniform over its places, so that no −inf meets another one; leave it out of any sum.
    """
    kept = entity_mask | ~entity_mask.any(dim=1, keepdim=True)
    scaled = (_wide(scores) / temperature).masked_fill(~entity_mask, 0.0)
    return torch.log_softmax(scaled.masked_fill(~kept, -torch.inf), dim=1)


def response_logprobs(token_logprobs: Tensor, token_mask: Tensor, entity_mask: Tensor, *, per_token: bool) -> Tensor:
    """Return a_i = log p(r|c, e_i), [B, K], or a_i/|r| (d_i, eq. 8); 0 where there is no entity."""
    total = _inside(token_logprobs, token_mask, entity_mask).sum(dim=2)
    return total / num_tokens(token_mask, like=total)[:, None] if per_token else total


def num_tokens(token_mask: Tensor, *, like: Tensor) -> Tensor:
    """Return |r|, [B], at least 1, in the dtype of `like`."""
    return token_mask.sum(dim=1).clamp(min=1).to(like.dtype)


def _inside(token_logprobs: Tensor, token_mask: Tensor, entity_mask: Tensor) -> Tensor:
    """Widen, and put 0 where there is no token or no entity."""
    inside = token_mask[:, None, :] & entity_mask[:, :, None]
    return _wide(token_logprobs).masked_fill(~inside, 0.0)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
