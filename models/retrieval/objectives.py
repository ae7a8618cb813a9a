"""What trains the retriever from the generator's likelihoods: MML and its alternatives, and the contrastive loss of MK-TOD."""

import torch
from torch import Tensor

from models.params.dialogue import JointParams
from models.retrieval.marginal import Marginal, entity_log_probs, log_marginal, response_logprobs


def retriever_loss(
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
    """Return the mean of `retriever_losses` over the turns that have entities, a scalar; arguments as there."""
    losses = retriever_losses(
        cfg,
        scores=scores,
        token_logprobs=token_logprobs,
        token_mask=token_mask,
        entity_mask=entity_mask,
        temperature=temperature,
        leave_one_out=leave_one_out,
        attention=attention,
    )
    return losses.sum() / entity_mask.any(dim=1).sum().clamp(min=1)


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
    if cfg.objective in ("pdist", "replug"):
        utility = response_logprobs(token_logprobs, token_mask, entity_mask, per_token=True)
    elif cfg.objective == "loop":
        utility = -_given(leave_one_out, "leave_one_out", cfg)
    else:
        utility = _given(attention, "attention", cfg)
    target = entity_log_probs(utility.detach(), entity_mask, temperature=cfg.target_temperature)
    log_q = entity_log_probs(scores, entity_mask, temperature=temperature)
    divergence = _kl(log_q, target, entity_mask) if cfg.objective == "replug" else _kl(target, log_q, entity_mask)
    return torch.where(entity_mask.any(dim=1), divergence, torch.zeros_like(divergence))


def _given(values: Tensor | None, name: str, cfg: JointParams) -> Tensor:
    if values is None:
        raise ValueError(f"`{name}` must be given for the objective `{cfg.objective}`, but is None")
    return values


def _kl(log_p: Tensor, log_q: Tensor, entity_mask: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row, [B]; masked places, −inf on both sides, add nothing."""
    log_p, log_q = (x.masked_fill(~entity_mask, 0.0) for x in (log_p, log_q))
    return (log_p.exp() * (log_p - log_q)).masked_fill(~entity_mask, 0.0).sum(dim=1)


def contrastive_margin(single: Tensor, without: Tensor, *, margin: float, top: int, mask: Tensor) -> Tensor:
    """Return the mean over turns of `contrastive_margins`, a scalar; arguments as there."""
    losses = contrastive_margins(single, without, margin=margin, top=top, mask=mask)
    return losses.sum() / mask.any(dim=1).sum().clamp(min=1)


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
