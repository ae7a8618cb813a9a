"""`fusion`: the target, the loss and the progressive schedule."""

import re
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from models.params.base import MAX_SEED, Section
from models.params.lora import LoraParams

Method = Literal["sft", "fusellm", "inference_only", "profuser", "simul", "reverse"]
METHODS: tuple[str, ...] = get_args(Method)

Budget = Literal["steps", "ground_truth"]
Normalise = Literal["mode", "tokens"]
# Names become folders, DVC stages, runs; no hyphen, as one stands between method and target there.
_SCHEDULE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Phase(Section):
    """One part of the schedule: L = w_train·L_train + w_infer·L_infer, each L_SFT + β·KL (eq. 3, 6)."""

    w_infer: float = Field(ge=0, description="Weight w1 of the inference-mode loss (the winning response).")
    w_train: float = Field(ge=0, description="Weight w2 of the training-mode loss (the ground truth).")
    beta: float | None = Field(None, ge=0, description="β of this phase; null = `fusion.beta`.")
    epochs: float = Field(1.0, gt=0, description="Passes over the prompts; how they count: `fusion.budget`.")
    lr: float | None = Field(None, gt=0, description="Peak learning rate of this phase; null = `fusion.lr`.")
    weights: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Weights stay, or move from the previous phase's weights to these over the phase."
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "Phase":
        if self.w_infer == 0 and self.w_train == 0:
            raise ValueError("`w_infer` and `w_train` must not both be 0")
        return self


class CheckpointParams(Section):
    """When training state is kept for resuming."""

    every_steps: int = Field(50, ge=1, description="Optimiser steps between two checkpoints.")
    every_minutes: float = Field(15.0, gt=0, description="Minutes between two checkpoints, whichever comes first.")
    keep: int = Field(2, ge=1, description="Checkpoints kept.")


class FusionParams(Section):
    """Training of the target."""

    targets: tuple[str, ...] = Field(min_length=1, description="Sources that serve as target, one after another.")
    beta: float = Field(0.11, ge=0, description="β of the KL term (0.11 = λ 0.9 of FuseLLM).")
    temperature: float = Field(1.0, gt=0, description="Temperature on both distributions.")
    tail: Literal["bucket", "renormalise"] = Field(
        "bucket",
        description="Probability outside the top-k: one more bucket on both sides, or dropped and renormalised.",
    )
    epochs: float = Field(2.0, gt=0, description="Passes over the prompts of every preset; split evenly over its phases.")
    budget: Budget = Field(
        "steps",
        description="What all presets have in common. `steps`: optimiser steps under one learning-rate curve. `ground_truth`: "
        "every method passes `epochs` times over the ground truth under that curve, and phases without it are steps on top.",
    )
    schedules: dict[str, tuple[Phase, ...]] = Field(
        default_factory=dict, description="Your own schedules by name, each a list of phases; `methods` may name them."
    )
    normalise: Normalise = Field(
        "mode",
        description="What the loss of a step is divided by. `mode`: each mode by its own response tokens. `tokens`: both by all "
        "response tokens of the step, so that every token weighs the same up to w_infer and w_train.",
    )
    replay: float = Field(0.1, ge=0, description="Weight of the other mode in the second phase of profuser and reverse (eq. 7).")
    simul_weight: float = Field(1.0, gt=0, description="w1 = w2 of the preset `simul`.")
    optimiser_at_switch: Literal["keep", "restart"] = Field(
        "keep", description="Adam state across a phase switch; `restart` also restarts warm-up and decay."
    )
    lr: float = Field(5e-4, gt=0, description="Peak learning rate.")
    lr_schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Decay over the whole schedule.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps for linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW β1.")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="AdamW β2.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping.")
    batch_size: int = Field(32, ge=1, description="Prompts per optimiser step, over all processes.")
    micro_batch_size: int = Field(16, ge=1, description="Prompts per forward pass and process.")
    max_length: int = Field(2048, ge=16, description="Longest prompt + response in target tokens.")
    loss_chunk: int = Field(1024, ge=1, description="Response tokens whose logits exist at a time.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Autocast dtype of training; what is trained stays float32."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    lora: LoraParams | None = Field(None, description="Low-rank adapters instead of full training.")
    checkpoints: CheckpointParams = Field(default_factory=CheckpointParams, description="Resume.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of data order and dropout.")

    @model_validator(mode="before")
    @classmethod
    def _named_schedules(cls, given: Any) -> Any:
        if isinstance(given, dict) and "schedule" in given:
            raise ValueError(
                "`schedule` is now one of `fusion.schedules`, by name: write `schedules: {my_schedule: [phases]}` and put "
                "`my_schedule` into `methods`"
            )
        return given

    @field_validator("schedules")
    @classmethod
    def _schedule_names(cls, schedules: dict[str, tuple[Phase, ...]]) -> dict[str, tuple[Phase, ...]]:
        faults = []
        for name, phases in schedules.items():
            if name in METHODS:
                faults.append(f"must not name a schedule like a preset, but has `{name}`. Call it something else")
            elif not _SCHEDULE_NAME.fullmatch(name):
                rule = "must name schedules by lower-case letters, digits and `_`, a letter first, 63 at most"
                faults.append(f"{rule}, but has `{name}`")
            if not phases:
                faults.append(f"must have at least one phase in every schedule, but `{name}` has none")
        if faults:
            raise ValueError("\n".join(faults))
        return schedules

    def for_method(self, method: str) -> "FusionParams":
        """Return the section with no other method's schedule in it: editing one trains no other again."""
        return self.model_copy(update={"schedules": {name: s for name, s in self.schedules.items() if name == method}})

    @model_validator(mode="after")
    def _micro_divides(self) -> "FusionParams":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"`micro_batch_size` ({self.micro_batch_size}) must divide `batch_size` ({self.batch_size})")
        if self.lora is not None and self.lora.base_dtype == "bfloat16" != self.dtype:
            raise ValueError(f"`lora.base_dtype` must be float32 unless `dtype` is bfloat16, but is bfloat16 with {self.dtype}")
        return self
