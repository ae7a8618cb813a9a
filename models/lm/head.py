"""The output head of a language model, separated from its backbone so that logits are computed only where they are needed."""

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.errors import SourceError

_PROBE_PEAK = 60.0  # far beyond every soft-cap in use (30, 50), inside float16 and bfloat16


class Backbone(Protocol):
    """A language model without its head."""

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, **more: Tensor) -> Tensor:
        """Return the last hidden states [B, T, D]; `more` are further inputs, such as `position_ids`."""


class Head(NamedTuple):
    """`logits = F.linear(backbone(input_ids, attention_mask), weight, bias)`.

    Attributes:
        backbone: Maps `input_ids` int64[B, T] and `attention_mask` int64[B, T] (or None) to the last hidden states [B, T, D].
        weight: [V, D], the very parameter of the model.
        bias: [V], or None.
    """

    backbone: Backbone
    weight: Tensor
    bias: Tensor | None


class _Backbone:
    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, **more: Tensor) -> Tensor:
        output = self._module(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **more)
        return _hidden(output)


def head_of(model: PreTrainedModel) -> Head:
    """Split a causal language model into backbone and linear head, and verify that the two reproduce its logits.

    The check puts large hidden states into the model in place of the backbone's and compares its logits with
    `F.linear(hidden, weight, bias)`, which exposes soft-capping or scaling that small logits would hide.

    Raises:
        SourceError: The model has no separable backbone, or its head does more than a linear map.
    """
    name = type(model).__name__
    module = backbone_module(model)
    linear = model.get_output_embeddings()
    if module is None or linear is None:
        raise SourceError(f"The head of {name} must be separable from its backbone, but is not. Use its full logits.")
    weight, bias = linear.weight, getattr(linear, "bias", None)
    if not _is_linear(model, module, weight, bias):
        raise SourceError(
            f"The head of {name} must be one linear map, but does more (soft-capping, scaling, …). Use its full logits."
        )
    return Head(_Backbone(module), weight, bias)


def backbone_module(model: PreTrainedModel) -> nn.Module | None:
    """Return a causal language model without its head; None where the two are one."""
    # `get_decoder` sees through adapters, where `base_model` is the adapted model with its head.
    for candidate in (model.get_decoder(), model.base_model):
        if candidate is not None and candidate is not model:
            return candidate
    return None


def _hidden(output: Any) -> Tensor:
    hidden = output[0] if isinstance(output, tuple) else output.last_hidden_state
    if not isinstance(hidden, Tensor):
        raise SourceError(f"A backbone must return its last hidden states first, but returns {type(hidden).__name__}.")
    return hidden


@torch.no_grad()
def _is_linear(model: PreTrainedModel, module: nn.Module, weight: Tensor, bias: Tensor | None) -> bool:
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(1, 2, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
    probe *= _PROBE_PEAK / F.linear(probe, weight).abs().max().clamp(min=1e-6)
    replaced = []

    def put_probe(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        replaced.append(_hidden(output).shape)
        if isinstance(output, tuple):
            return (probe, *output[1:])
        output.last_hidden_state = probe
        return output

    handle = module.register_forward_hook(put_probe)
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=weight.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    finally:
        handle.remove()
    expected = F.linear(probe, weight, bias).float()
    same_shape = len(replaced) == 1 and replaced[0] == probe.shape and logits.shape == expected.shape
    tolerance = 2 * torch.finfo(weight.dtype).eps * _PROBE_PEAK
    return bool(same_shape and torch.allclose(logits.float(), expected, rtol=0.0, atol=tolerance))


_PLAIN = (Tensor, torch.nn.Parameter)  # not the sharded or quantised kinds, which bring products of their own


def head_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weightᵀ + bias, like `F.linear`; computed by oneDNN, without gradients, where that is faster.

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
    """Return zeros [V, D] to `add_product` to; on a CPU stored as [D, V], the layout of oneDNN's products."""
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
