"""Products with the head: the same numbers by either library, and autograd's own where gradients are wanted."""

import pytest
import torch
import torch.nn.functional as F

from models.fusion import head_product as module
from models.fusion.head_product import add_product, head_product, zeros_for_sum


def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in ((13, 24), (70, 24), (70,), (13, 70))]


@pytest.fixture(params=["as found", "without oneDNN"])
def library(request, monkeypatch):
    if request.param == "without oneDNN":
        monkeypatch.setattr(module, "_has_onednn", lambda: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("library")
def test_products_are_those_of_float64(dtype):
    hidden, weight, bias, slope = tensors(dtype)
    wide = [t.double() for t in (hidden, weight, bias, slope)]
    close = {"rtol": 0.0, "atol": {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 0.15}[dtype]}
    torch.testing.assert_close(head_product(hidden, weight, bias).double(), F.linear(*wide[:3]), **close)
    torch.testing.assert_close(head_product(slope, weight.T).double(), wide[3] @ wide[1], **close)
    total = zeros_for_sum(weight, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    for rows in (slice(0, 8), slice(8, 13)):
        add_product(total, slope[rows], hidden[rows])
    assert total.shape == weight.shape
    torch.testing.assert_close(total.double(), wide[3].T @ wide[0], **close)


@pytest.mark.usefixtures("library")
def test_empty_sides_give_what_linear_gives():
    hidden, weight, bias, _ = tensors()
    assert head_product(hidden[:0], weight, bias).shape == (0, 70)
    assert torch.equal(head_product(hidden[:, :0], weight[:, :0], bias), bias.expand(13, -1))


@pytest.mark.usefixtures("library")
def test_gradients_flow_where_they_are_wanted():
    hidden, weight, _, slope = tensors()
    weight.requires_grad_()
    head_product(hidden, weight).backward(slope)
    torch.testing.assert_close(weight.grad, slope.T @ hidden)
    with torch.no_grad():
        torch.testing.assert_close(head_product(hidden, weight), F.linear(hidden, weight))
