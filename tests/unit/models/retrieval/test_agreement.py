import pytest
import torch
from scipy.stats import kendalltau

from models.retrieval.agreement import rank_agreement


def test_equal_and_reversed_orders():
    scores = torch.tensor([[0.9, 0.5, 0.1]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert rank_agreement(scores, 10 * scores - 30, mask) == {"tau": 1.0, "top1": 1.0, "inversions": 0.0, "num": 1.0}
    assert rank_agreement(scores, -scores, mask) == {"tau": -1.0, "top1": 0.0, "inversions": 3.0, "num": 1.0}


def test_tau_is_scipys_without_ties():
    g = torch.Generator().manual_seed(3)
    scores, likelihoods = torch.rand(20, 6, generator=g), -torch.rand(20, 6, generator=g)
    mask = torch.ones(20, 6, dtype=torch.bool)
    expected = sum(kendalltau(s, a).statistic for s, a in zip(scores.numpy(), likelihoods.numpy(), strict=True)) / 20
    assert rank_agreement(scores, likelihoods, mask)["tau"] == pytest.approx(expected, abs=1e-9)


def test_masked_entities_and_short_turns_are_left_out():
    inf = torch.inf
    scores = torch.tensor([[0.9, 0.5, -inf], [0.3, -inf, -inf], [-inf, -inf, -inf]])
    likelihoods = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert rank_agreement(scores, likelihoods, mask) == {"tau": 1.0, "top1": 1.0, "inversions": 0.0, "num": 1.0}
    assert rank_agreement(scores[1:], likelihoods[1:], mask[1:])["num"] == 0.0


def test_a_tie_is_neither_concordant_nor_discordant():
    report = rank_agreement(
        torch.tensor([[0.5, 0.5, 0.1]]), torch.tensor([[-1.0, -2.0, -3.0]]), torch.ones(1, 3, dtype=torch.bool)
    )
    assert report["tau"] == pytest.approx(2 / 3) and report["inversions"] == 0.0
