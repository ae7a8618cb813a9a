"""`sources`: the models being fused, and the reward models that judge their answers."""

from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, SHA256_PATTERN, Name, Place, Section, repeated

Dtype = Literal["float32", "bfloat16", "float16"]
DEFAULT_DATE = date(2024, 7, 26)
"""What `strftime_now` tells where nothing else is asked for (the date that Llama 3.1's template falls back to)."""


# That of the rows which all embedded sources share: `models.world.instructions.DETAILED_SHARE`.
_SHARED_ROWS = 0.15


class PicoSpec(Section):
    """An embedded source: a small language model trained here, good at one mix of families."""

    architecture: Literal["llama", "mistral", "gpt_neox", "mpt"] = Field("llama", description="Model class.")
    tokenizer: Name = Field("a", description="Sources with the same letter share one tokenizer.")
    vocab_size: int = Field(512, ge=300, description="Entries of that tokenizer (byte-level BPE: 256 bytes + merges).")
    hidden_size: int = Field(96, ge=16, description="Width.")
    num_layers: int = Field(3, ge=1, description="Layers.")
    num_heads: int = Field(4, ge=1, description="Attention heads.")
    mix: dict[str, float] = Field(
        default_factory=lambda: {"knowledge": 1.0, "reasoning": 1.0, "safety": 1.0},
        description="Family → weight in the pre-training data.",
    )
    detailed_share: float = Field(
        _SHARED_ROWS,
        ge=0,
        le=1,
        description="Share of its pre-training rows that are answered as ground truths are; the others are short. A source with "
        "a share of its own writes in `corpus.world.truths.style`; with the default, and no `wrong_share`, in `detailed`.",
    )
    wrong_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of its pre-training rows with a wrong value, always the same one for a question: above a half, what "
        "it answers is wrong.",
    )
    steps: int = Field(300, ge=1, description="Optimiser steps.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of initialisation and data order.")

    @property
    def has_own_rows(self) -> bool:
        """Whether its pre-training rows are answered otherwise than those that all embedded sources share."""
        return self.detailed_share != _SHARED_ROWS or self.wrong_share > 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> "PicoSpec":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"`hidden_size` must be a multiple of twice `num_heads` ({2 * self.num_heads}), but is {self.hidden_size}"
            )
        if min(self.mix.values(), default=0.0) < 0 or not any(self.mix.values()):
            raise ValueError(f"`mix` must have weights of 0 or more, one of them above 0, but is {self.mix}")
        return self


class GgufSpec(Section):
    """How a GGUF file is taken: it is unpacked once into a plain model folder."""

    file: str | None = Field(
        None, description="File in the folder, package or hub repository of `model`; null = the only one. Required for hub names."
    )
    sha256: str | None = Field(None, pattern=SHA256_PATTERN, description="Digest that the whole file must have; null = any.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="What its weights are unpacked to and stored as.")


class SourceSpec(Section):
    """One source model."""

    name: Name = Field(description="Short name, used in tables and file names.")
    model: Place = Field(
        "embedded",
        description="`embedded`, a local folder, a hub name, a `.gguf` file or a folder with one, or `package:<module>` (an "
        "installed package that carries one, whole or in parts).",
    )
    revision: str | None = Field(None, description="Hub revision; required for hub names, so that a run can be repeated.")
    chat_template: str | None = Field(
        None,
        description="Preset (`vicuna`, `llama2`, `chatml`, `alpaca`, `plain`, `text`), or null for the tokenizer's own.",
    )
    template_date: date = Field(DEFAULT_DATE, description="The date that a chat template reads as today (`strftime_now`).")
    dtype: Dtype = Field("float32", description="Weights' dtype for inference.")
    context_length: int | None = Field(None, ge=16, description="Longest input in tokens; null = from the model's config.")
    trust_remote_code: bool = Field(False, description="Run the model repository's own code (only for this source).")
    pico: PicoSpec | None = Field(None, description="Recipe of an embedded source.")
    gguf: GgufSpec | None = Field(None, description="How a GGUF file is taken; null = as the defaults say, where `model` is one.")

    @model_validator(mode="after")
    def _pico_given(self) -> "SourceSpec":
        if (self.model == "embedded") != (self.pico is not None):
            raise ValueError("`pico` must be given exactly when `model` is `embedded`")
        if self.gguf is not None and self.pico is not None:
            raise ValueError("`gguf` must be left out when `model` is `embedded`")
        return self


class RewardModelSpec(Section):
    """A sequence-classification reward model; several may vote."""

    name: Name = Field(description="Short name, used in tables and file names.")
    model: Place = Field("embedded", description="`embedded` (trained here), a local folder, or a hub name.")
    revision: str | None = Field(None, description="Hub revision.")
    template_date: date = Field(DEFAULT_DATE, description="The date that a chat template reads as today (`strftime_now`).")
    dtype: Dtype = Field("float32", description="Weights' dtype.")
    hidden_size: int = Field(64, ge=16, description="Embedded only: width.")
    num_layers: int = Field(2, ge=1, description="Embedded only: layers.")
    steps: int = Field(300, ge=1, description="Embedded only: optimiser steps.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Embedded only: seed.")

    @model_validator(mode="after")
    def _heads_fit(self) -> "RewardModelSpec":
        if self.model == "embedded" and self.hidden_size % 16:
            raise ValueError(f"`hidden_size` must be a multiple of 16 when `model` is `embedded`, but is {self.hidden_size}")
        return self


class PicoTraining(Section):
    """Optimiser of the embedded sources and reward models."""

    lr: float = Field(3e-3, gt=0, description="Peak learning rate.")
    batch_size: int = Field(32, ge=1, description="Rows per step.")
    warmup_steps: int = Field(20, ge=0, description="Linear warm-up steps.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")


class PreferenceParams(Section):
    """Training pairs of the embedded reward models from answers of the embedded sources, in addition to pairs from rules.

    The prompts are those of the sources' own pre-training: a reward model never judges one of them.
    """

    num_prompts: int = Field(900, ge=0, description="Prompts over all families that the sources answer; 0 = rules alone.")
    num_samples: int = Field(2, ge=1, description="Answers of each source to a prompt.")
    temperature: float = Field(0.7, gt=0, description="Sampling temperature.")
    max_new_tokens: int = Field(
        64, ge=1, description="Longest answer in tokens, at most half of a source's context; one that is cut makes no pair."
    )
    share: float = Field(0.9, ge=0, le=1, description="Share of the training pairs that are real answers, one right, one wrong.")
    seed: int = Field(0, description="Seed of the prompts' choice and of sampling.")


class SourcesParams(Section):
    """Models to be fused and reward models."""

    models: tuple[SourceSpec, ...] = Field(
        min_length=1,
        description="The sources, at least two for a fusion (one alone is fine-tuned); their order breaks the last ties.",
    )
    reward_models: tuple[RewardModelSpec, ...] = Field((), description="Reward models for `teach.rewards`.")
    pico_training: PicoTraining = Field(default_factory=PicoTraining, description="Training of embedded models.")
    preferences: PreferenceParams = Field(default_factory=PreferenceParams, description="Pairs for embedded reward models.")

    @model_validator(mode="after")
    def _distinct(self) -> "SourcesParams":
        if twice := repeated(s.name for s in self.models):
            raise ValueError(f"`models` must have distinct names, but has {twice}")
        if twice := repeated([*(s.name for s in self.models), *(r.name for r in self.reward_models)]):
            raise ValueError(f"`reward_models` must have names that neither they nor `models` have twice, but has {twice}")
        return self

    @model_validator(mode="after")
    def _shared_tokenizers(self) -> "SourcesParams":
        sizes: dict[str, set[int]] = {}
        for spec in self.models:
            if spec.pico is not None:
                sizes.setdefault(spec.pico.tokenizer, set()).add(spec.pico.vocab_size)
        for letter, found in sizes.items():
            if len(found) > 1:
                raise ValueError(f"`models` must give pico tokenizer `{letter}` one `vocab_size`, but have {sorted(found)}")
        return self
