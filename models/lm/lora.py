"""Low-rank adapters (peft, an optional extra): added to a model for training, merged into its weights when it is saved."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.errors import ParamsError, Problem
from models.params.lora import LoraParams

_ADAPTER = "default"


def add_adapters(model: PreTrainedModel, params: LoraParams, *, key: str = "fusion.lora") -> nn.Module:
    """Return the model inside a `PeftModel` whose adapters, float32, alone are trained.

    Args:
        model: Gets the adapters.
        params: Their rank, scale and layers.
        key: Where they are set, for errors.

    Raises:
        ParamsError: peft is not installed, or `target_modules` names no layer, or an embedding that is also the head.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as err:
        hint = f"Install the extra `lora` (pip install 'fusedial[lora]'), or set `{key}` to null."
        raise ParamsError("Adapters cannot be used", [Problem(f"`{key}`", "needs the package peft", "", hint)]) from err
    modules = params.target_modules
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", None)
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,  # type: ignore[arg-type]  # scales by alpha / r: need not be an integer
        lora_dropout=params.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        adapted: nn.Module = get_peft_model(model, config)
    except ValueError as err:
        problem = Problem(f"`{key}.target_modules`", f"must name layers of {type(model).__name__}", repr(modules), str(err))
        raise ParamsError("Adapters cannot be used", [problem]) from err
    ends = {"input embedding": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    if tied and (shared := [name for name, layer in ends.items() if hasattr(layer, "base_layer")]):
        rule = f"must not name the {' or the '.join(shared)} of {type(model).__name__}, whose embedding and head are one matrix"
        hint = f"Name layers between them (or `all-linear`), or train in full (`{key}: null`)."
        problem = Problem(f"`{key}.target_modules`", rule, repr(modules), hint)
        raise ParamsError("Adapters cannot be used", [problem])
    return adapted


def through_head(head: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return x, weight and bias with x @ weightᵀ + bias = head(hidden), for a linear head with or without an adapter.

    With one it is [h, α/r·drop(h)·Aᵀ] @ [W, B]ᵀ: the adapter is r more columns, and gradients reach A and B.

    Args:
        head: A linear layer, or peft's layer around one.
        hidden: [N, D].

    Returns:
        x [N, D + r], weight [V, D + r], bias [V] or None; r = 0 without an adapter.
    """
    bias = getattr(head, "bias", None)
    if not hasattr(head, "base_layer"):
        return hidden, head.weight, bias
    down, up = head.lora_A[_ADAPTER].weight, head.lora_B[_ADAPTER].weight
    low = F.linear(head.lora_dropout[_ADAPTER](hidden).to(down.dtype), down) * head.scaling[_ADAPTER]
    return torch.cat([hidden, low.to(hidden.dtype)], dim=1), torch.cat([head.weight, up.to(head.weight.dtype)], dim=1), bias


def merged_state(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return the weights of a causal model with its adapters (if any) added in, under the names it has without them.

    The model itself stays as it is: merging in place and taking the adapters out again would not restore the same bits. Adapted
    weights are float32 where they were narrower, so that small changes are not lost before they are written.

    Args:
        model: Gives the layers that have adapters.
        state: Its full state, where the model itself holds only a part of it (FSDP); None = its own.
    """
    state = model.state_dict() if state is None else state
    layers: dict[str, Any] = {name: m for name, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    merged = {}
    for key, tensor in state.items():
        name = next((name for name in layers if key.startswith(f"{name}.")), None)
        if name is None:
            merged[key] = tensor
            continue
        base, dot, field = key.removeprefix(f"{name}.").rpartition("base_layer.")
        if dot and not base:
            merged[f"{name}.{field}"] = tensor if field != "weight" else _added(tensor, layers[name], name, state)
    return merged


def _added(weight: Tensor, layer: Any, name: str, state: Mapping[str, Tensor]) -> Tensor:
    """Return a weight with the adapter of its layer, read from `state`: α/r · B·A."""
    if f"{name}.lora_A.{_ADAPTER}.weight" in state:
        down, up = (state[f"{name}.lora_{part}.{_ADAPTER}.weight"] for part in "AB")
        delta = (up @ down).T if layer.fan_in_fan_out else up @ down
    else:  # of an embedding: rows are tokens
        down, up = (state[f"{name}.lora_embedding_{part}.{_ADAPTER}"] for part in "AB")
        delta = (up @ down).T
    wide = torch.promote_types(weight.dtype, torch.float32)
    return weight.to(wide) + delta.to(wide) * float(layer.scaling[_ADAPTER])


def cast_state(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast floating weights; tied ones stay one tensor, so that they are written once."""
    done: dict[tuple[int, torch.Size], Tensor] = {}
    for tensor in state.values():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in done:
            done[key] = (tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach()).contiguous()
    return {name: done[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}
