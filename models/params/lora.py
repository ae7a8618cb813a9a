"""`lora`: adapters, for the target of a fusion and for a generator of the dialogue half."""

from typing import Literal

from pydantic import Field

from models.params.base import Section


class LoraParams(Section):
    """Low-rank adapters instead of full training (peft); merged into the weights at the end."""

    rank: int = Field(16, ge=1, description="Rank.")
    alpha: float = Field(32.0, gt=0, description="Scale.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter input.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Layers with adapters; `all-linear` are all but the head."
    )
    base_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Dtype of the frozen weights; `bfloat16` needs a training in `dtype: bfloat16`, and rounds a float32 model "
        "for good. Adapters are float32.",
    )
