"""Chunked log-probabilities against the whole log-softmax."""

import pytest
import torch

from models.dialogue.generators.trainable import token_logprobs


@pytest.mark.parametrize("chunk", [1, 60, 1 << 20])
def test_values_and_gradients_do_not_depend_on_the_chunk(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(11, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    labels = torch.randint(20, (11,))
    weights = torch.randn(11)

    def run(ours: bool) -> list[torch.Tensor]:
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        values = token_logprobs(h, w, labels, chunk=chunk) if ours else torch.log_softmax(h @ w.T, 1)[torch.arange(11), labels]
        (values * weights).sum().backward()
        return [values.detach(), h.grad, w.grad]

    ours, whole = run(True), run(False)
    assert ours[0].dtype == torch.float32
    assert all(torch.allclose(a.double(), b, atol=1e-5) for a, b in zip(ours, whole, strict=True))


def test_logits_are_not_kept_for_the_backward_pass() -> None:
    hidden, weight = torch.randn(64, 4, requires_grad=True), torch.randn(500, 4, requires_grad=True)
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_logprobs(hidden, weight, torch.zeros(64, dtype=torch.int64), chunk=2000)
    assert max(kept) <= weight.numel()


def test_no_row_is_no_value() -> None:
    assert token_logprobs(torch.zeros(0, 4), torch.zeros(5, 4), torch.zeros(0, dtype=torch.int64)).shape == (0,)
