import math

import pytest
import torch
from torch import Tensor

from models.retrieval.warm_loss import contrastive_loss

TAU = 0.05


def _unit(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return torch.nn.functional.normalize(values, dim=-1)


def test_equals_cross_entropy_without_masks() -> None:
    q, e = _unit(5, 8), _unit(7, 8, seed=1)
    positives = torch.tensor([3, 0, 6, 6, 2])
    expected = torch.nn.functional.cross_entropy(q @ e.T / TAU, positives, reduction="none")
    torch.testing.assert_close(contrastive_loss(q, e, positives, temperature=TAU), expected)


def test_two_orthogonal_entities_by_hand() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.eye(2)
    loss = contrastive_loss(q, e, torch.tensor([0]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_masked_columns_neither_count_nor_learn() -> None:
    q, e = _unit(2, 8), _unit(3, 8, seed=1).requires_grad_()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    loss = contrastive_loss(q, e, torch.tensor([0, 1]), mask=mask, temperature=1.0)
    kept = torch.nn.functional.cross_entropy((q[:1] @ e[[0, 2]].T), torch.tensor([0]))
    assert loss[0].item() == pytest.approx(kept.item(), rel=1e-5)
    loss[0].backward()
    assert e.grad is not None
    assert e.grad[1].abs().sum() == 0
    assert e.grad[0].abs().sum() > 0


def test_duplicate_of_the_positive_is_a_false_negative_unless_masked() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    positives = torch.tensor([0])
    assert contrastive_loss(q, e, positives, temperature=TAU).item() == pytest.approx(math.log(2))
    masked = contrastive_loss(q, e, positives, mask=torch.tensor([[False, True]]), temperature=TAU)
    assert masked.item() == 0


def test_any_of_several_positives_is_enough() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    also = torch.tensor([[False, True, False]])
    alone = contrastive_loss(q, e, torch.tensor([0]), temperature=TAU)
    either = contrastive_loss(q, e, torch.tensor([0]), also=also, temperature=TAU)
    assert alone.item() > 30
    assert either.item() < 1e-6


def test_nothing_to_tell_apart_is_zero_and_half_precision_is_reduced_in_float32() -> None:
    q = _unit(1, 8)
    assert contrastive_loss(q, q, torch.tensor([0]), temperature=TAU).item() == 0
    assert contrastive_loss(q.bfloat16(), q.bfloat16(), torch.tensor([0]), temperature=TAU).dtype == torch.float32
