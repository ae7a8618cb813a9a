"""`fusion`: the target, the loss and the progressive schedule."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import Section

Method = Literal["sft", "fusellm", "inference_only", "profuser", "simul", "reverse"]
METHODS: tuple[str, ...] = ("sft", "fusellm", "inference_only", "profuser", "simul", "reverse")


class Phase(Section):
    """One part of the schedule: L = w_train·L_train + w_infer·L_infer, each L_SFT + β·KL (eq. 3, 6)."""

    w_infer: float = Field(ge=0, description="Weight w1 of the inference-mode loss (the winning response).")
    w_train: float = Field(ge=0, description="Weight w2 of the training-mode loss (the ground truth).")
    beta: float | None = Field(None, ge=0, description="β of this phase; null = `fusion.beta`.")
    epochs: float = Field(1.0, gt=0, description="Passes over the prompts.")
    lr: float | None = Field(None, gt=0, description="Peak learning rate of this phase; null = `fusion.lr`.")
    weights: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Weights stay, or move from the previous phase's weights to these over the phase."
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "Phase":
        if self.w_infer == 0 and self.w_train == 0:
            raise ValueError("`w_infer` and `w_train` must not both be 0")
        return self


class LoraParams(Section):
    """Low-rank adapters instead of full training (peft); merged into the weights at the end."""

    rank: int = Field(16, ge=1, description="Rank.")
    alpha: float = Field(32.0, gt=0, description="Scale.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter input.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field("all-linear", description="Layers with adapters.")


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
    schedule: tuple[Phase, ...] | None = Field(None, description="A schedule of one's own, run under the method name `custom`.")
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
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Autocast dtype of training; weights stay float32.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    lora: LoraParams | None = Field(None, description="Low-rank adapters instead of full training.")
    checkpoints: CheckpointParams = Field(default_factory=CheckpointParams, description="Resume.")
    seed: int = Field(0, description="Seed of data order and dropout.")

    @model_validator(mode="after")
    def _micro_divides(self) -> "FusionParams":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"`micro_batch_size` ({self.micro_batch_size}) must divide `batch_size` ({self.batch_size})")
        return self
