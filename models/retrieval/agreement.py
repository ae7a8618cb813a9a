"""Whether retriever and generator agree on which of the retrieved entities are good."""

import torch
from torch import Tensor


def rank_agreement(scores: Tensor, likelihoods: Tensor, mask: Tensor) -> dict[str, float]:
    """Compare two orders of the same entities, turn by turn.

    Args:
        scores: What the retriever gives, [B, K].
        likelihoods: What the generator gives, log p(r|c, e_i), [B, K].
        mask: bool[B, K], True at entities; turns with fewer than two of them are left out.

    Returns:
        `tau`: Kendall's τ-a, the share of concordant minus that of discordant pairs (a pair tied on either side is neither);
        `top1`: share of turns in which the best entity is the same (ties by place); `inversions`: discordant pairs of a turn.
        All are means over turns, of which there are `num`; 0 where there is none.
    """
    valid = mask.sum(dim=1) >= 2
    num = int(valid.sum())
    if not num:
        return {"tau": 0.0, "top1": 0.0, "inversions": 0.0, "num": 0.0}
    scores, likelihoods, mask = scores[valid].double(), likelihoods[valid].double(), mask[valid]
    pairs = torch.triu(torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device), diagonal=1)
    pairs = pairs & mask[:, :, None] & mask[:, None, :]
    signs = _differences(scores, mask).sign() * _differences(likelihoods, mask).sign()
    signs = signs.masked_fill(~pairs, 0.0)
    tau = signs.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
    best = [values.masked_fill(~mask, -torch.inf).argmax(dim=1) for values in (scores, likelihoods)]
    return {
        "tau": float(tau.mean()),
        "top1": float((best[0] == best[1]).double().mean()),
        "inversions": float((signs < 0).sum(dim=(1, 2)).double().mean()),
        "num": float(num),
    }


def _differences(values: Tensor, mask: Tensor) -> Tensor:
    """Return v_i − v_j, [B, K, K]; masked places count as 0, lest infinities be subtracted."""
    values = values.masked_fill(~mask, 0.0)
    return values[:, :, None] - values[:, None, :]
