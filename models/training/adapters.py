"""Low-rank adapters (peft), an extra: put around the target for training, merged into its weights when it is saved."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from models.errors import ParamsError, Problem
from models.params.fusion import LoraParams


def add_adapters(model: PreTrainedModel, params: LoraParams) -> nn.Module:
    """Return the model inside a `PeftModel` whose adapters alone are trained.

    Raises:
        ParamsError: peft is not installed, or no layer of the model is in `target_modules`.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as err:
        hint = "Install the extra `lora` (pip install 'fusedial[lora]'), or set `fusion.lora` to null."
        raise ParamsError("Adapters cannot be used", [Problem("`fusion.lora`", "needs the package peft", "", hint)]) from err
    modules = params.target_modules
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,  # type: ignore[arg-type]  # scales by alpha / r: need not be whole
        lora_dropout=params.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        adapted: nn.Module = get_peft_model(model, config)
    except ValueError as err:
        problem = Problem("`fusion.lora.target_modules`", f"must name layers of {type(model).__name__}", repr(modules), str(err))
        raise ParamsError("Adapters cannot be used", [problem]) from err
    return adapted


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a causal model with its adapters (if any) added in, under the names it has without them.

    The model itself stays as it is: merging in place and taking the adapters out again would not restore the same bits.
    """
    layers: dict[str, Any] = {name: m for name, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    state = {}
    for key, tensor in model.state_dict().items():
        name = next((name for name in layers if key.startswith(f"{name}.")), None)
        if name is None:
            state[key] = tensor
            continue
        base, dot, field = key.removeprefix(f"{name}.").rpartition("base_layer.")
        if dot and not base:
            delta = layers[name].get_delta_weight("default").to(tensor.dtype) if field == "weight" else 0
            state[f"{name}.{field}"] = tensor + delta
    return state
