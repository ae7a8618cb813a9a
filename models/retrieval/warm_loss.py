"""The in-batch contrastive loss of the warm start (MK-TOD, App. D)."""

import torch
from torch import Tensor


def contrastive_loss(
    q_reps: Tensor,
    e_reps: Tensor,
    positives: Tensor,
    *,
    mask: Tensor | None = None,
    also: Tensor | None = None,
    log_q: Tensor | None = None,
    temperature: float,
) -> Tensor:
    """Return L_CL of each context: −log Σ_{j∈P} exp(cos(h_c, h_ej)/τ) / Σ_{j∈P∪N} exp(cos(h_c, h_ej)/τ).

    P is the positive alone (the published loss), or with the columns of `also` (any of them is right); N are the other columns
    that `mask` leaves.

    Negatives that are other turns' positives come as often as their entity is spoken of; the optimum of the loss is then
    log p(e | c) − log p(e) and disfavours entities that are spoken of often. With `log_q` each logit is lowered by the log of how
    likely its entity is to be in the batch, and the optimum is log p(e | c) (the logQ correction of sampled softmax; Yi et al.,
    RecSys 2019).

    Args:
        q_reps: Contexts, unit vectors [B, D].
        e_reps: Entities, unit vectors [M, D]: the positives of the batch and further ones.
        positives: int64[B], the column of each context's positive.
        mask: bool[B, M], True = no negative (the same entity again, or one that explains the turn as well). The positive's own
            column may be True.
        also: bool[B, M], True = as good as the positive.
        log_q: float32[M], log probability of each column to be in the batch; None = the published loss.
        temperature: τ.

    Returns:
        float32[B], nats; 0 where nothing is left to tell the positive from.
    """
    scores = (q_reps.float() @ e_reps.float().T) / temperature
    if log_q is not None:
        scores = scores - log_q
    own = torch.zeros_like(scores, dtype=torch.bool).scatter(1, positives[:, None], True)
    right = own if also is None else own | also
    counted = right if mask is None else right | ~mask
    if mask is None:
        counted = torch.ones_like(right)
    top = scores.masked_fill(~right, -torch.inf).logsumexp(dim=1)
    return scores.masked_fill(~counted, -torch.inf).logsumexp(dim=1) - top
