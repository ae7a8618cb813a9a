"""Matrix products with a head's size outside autograd, by the quicker of torch's two float32 libraries.

On a CPU torch takes float32 products to MKL, which uses half of AVX-512's width on processors of other makers. oneDNN, which it
carries as well, was 2.2 times as fast there with rounding errors of the same size (2,048 × 256 × 32,000 on an AMD Zen 5 core: 80
against 200 GFLOP/s). torch reaches it for float32 only through the operator that its own compiler emits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_PLAIN = (Tensor, torch.nn.Parameter)  # not the sharded or quantised kinds, which bring products of their own


def head_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weightᵀ + bias, like `F.linear`; without gradients where oneDNN makes it.

    Args:
        x: [n, D], of any strides.
        weight: [V, D], of any strides.
        bias: [V] or None.
    """
    if _by_onednn(x, weight, bias):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


def zeros_for_sum(weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Return zeros [V, D] to `add_product` to; on a CPU stored as [D, V], which is how oneDNN makes what is added."""
    if weight.device.type != "cpu":
        return torch.zeros_like(weight, dtype=dtype)
    return torch.zeros_like(weight.T, dtype=dtype, memory_format=torch.contiguous_format).T


def add_product(total: Tensor, slope: Tensor, hidden: Tensor) -> None:
    """Add slopeᵀ @ hidden to the head's gradient [V, D], in place.

    Args:
        total: [V, D], from `zeros_for_sum`.
        slope: [n, V], gradient of the logits.
        hidden: [n, D].
    """
    if slope.dtype == total.dtype and not _by_onednn(hidden, slope):
        total.addmm_(slope.T, hidden)
    else:
        total += head_product(hidden.T, slope.T).T


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    given = [t for t in (x, weight, bias) if t is not None]
    if not all(type(t) in _PLAIN and t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() for t in given):
        return False
    if bias is not None and bias.shape != weight.shape[:1]:
        return False  # torch says what is wrong
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    return not wants_gradient and not torch.is_autocast_enabled("cpu") and _has_onednn()


def _has_onednn() -> bool:
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
