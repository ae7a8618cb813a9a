"""Retriever objectives from the generator's likelihoods.

The marginal likelihood (eq. 4–6 of MK-TOD), its alternatives, and the contrastive loss.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.params.dialogue import JointParams, Objective

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


def retriever_losses(
    cfg: JointParams,
    *,
    scores: Tensor,
    token_logprobs: Tensor,
    token_mask: Tensor,
    entity_mask: Tensor,
    temperature: Tensor | float,
    leave_one_out: Tensor | None = None,
    attention: Tensor | None = None,
) -> Tensor:
    """Return the loss of each turn under `cfg.objective`, float32[B], nats; 0 for turns without entities.

    `mml`: −log Σ_i q_i p(r|c, e_i) (eq. 6), by whole responses or as `cfg.marginal` says; trains the generator as well, unless
    `cfg.stop_generator`. The others train the retriever alone: `emdr2` is the token-wise marginal; `pdist`, `loop` and `adist`
    are KL(t ‖ q) and `replug` is KL(q ‖ t) for a target t = softmax(u/T) over the entities, T = `cfg.target_temperature`, with
    u the likelihood per token a_i/|r| (pdist, replug), minus the likelihood per token without the entity (loop), the
    attention paid to it (adist).

    Args:
        cfg: Objective, its marginal, its temperature.
        scores: s, [B, K].
        token_logprobs: log p(r_j | r_<j, c, e_i), [B, K, T].
        token_mask: bool[B, T].
        entity_mask: bool[B, K].
        temperature: τ of q = softmax(s/τ).
        leave_one_out: For `loop`: log-likelihood per token given all entities but one, [B, K].
        attention: For `adist`: what the decoder's attention gave to each entity, [B, K].

    Raises:
        ValueError: The objective needs `leave_one_out` or `attention`, which is None.
    """
    if cfg.objective in ("mml", "emdr2"):
        form: Marginal = "token" if cfg.objective == "emdr2" else cfg.marginal
        stopped = cfg.objective == "emdr2" or cfg.stop_generator
        logprobs = token_logprobs.detach() if stopped else token_logprobs
        return -log_marginal(scores, logprobs, token_mask, entity_mask=entity_mask, temperature=temperature, form=form)
    target = TARGETS[cfg.objective]
    if target.utility == "likelihood":
        utility = response_logprobs(token_logprobs, token_mask, entity_mask, per_token=True)
    elif target.utility == "leave_one_out":
        utility = -_given(leave_one_out, "leave_one_out", cfg)
    else:
        utility = _given(attention, "attention", cfg)
    log_t = entity_log_probs(utility.detach(), entity_mask, temperature=cfg.target_temperature)
    log_q = entity_log_probs(scores, entity_mask, temperature=temperature)
    divergence = target.divergence(log_t, log_q, entity_mask)
    return torch.where(entity_mask.any(dim=1), divergence, torch.zeros_like(divergence))


def _given(values: Tensor | None, name: str, cfg: JointParams) -> Tensor:
    if values is None:
        raise ValueError(f"`{name}` must be given for the objective `{cfg.objective}`, but is None")
    return values


def _kl(log_p: Tensor, log_q: Tensor, entity_mask: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row, [B]; masked places, −inf on both sides, add nothing."""
    log_p, log_q = (x.masked_fill(~entity_mask, 0.0) for x in (log_p, log_q))
    return (log_p.exp() * (log_p - log_q)).masked_fill(~entity_mask, 0.0).sum(dim=1)


def _kl_to_target(log_t: Tensor, log_q: Tensor, entity_mask: Tensor) -> Tensor:
    return _kl(log_q, log_t, entity_mask)


class Target(NamedTuple):
    """An objective that pulls q towards a distribution t over the entities.

    Attributes:
        utility: What t is the softmax of: the likelihood given each entity alone, the loss of likelihood without it, or the
            decoder's attention to it. The module computes the latter two only where they are asked for.
        divergence: (log t, log q, entity mask), each [B, K] → [B].
    """

    utility: Literal["likelihood", "leave_one_out", "attention"]
    divergence: Callable[[Tensor, Tensor, Tensor], Tensor]


TARGETS: Mapping[Objective, Target] = {
    "pdist": Target("likelihood", _kl),
    "loop": Target("leave_one_out", _kl),
    "adist": Target("attention", _kl),
    "replug": Target("likelihood", _kl_to_target),
}


def contrastive_margins(single: Tensor, without: Tensor, *, margin: float, top: int, mask: Tensor) -> Tensor:
    """Return L_CTR = Σ_{i in E*} max(0, d⁻ − d_i + λ) of each turn (eq. 10 of MK-TOD), [B].

    Args:
        single: d_i = a_i/|r|, log-likelihood per token given one entity (eq. 8), [B, K], best ranked first.
        without: d⁻, log-likelihood per token given no entity (eq. 9), [B].
        margin: λ.
        top: |E*|, the best ranked entities that must beat no entity.
        mask: bool[B, K], True at entities.
    """
    hinge = torch.relu(without[:, None] - single[:, :top] + margin)
    return hinge.masked_fill(~mask[:, :top], 0.0).sum(dim=1)
