"""`dialogue`: meta knowledge, the response generator, and joint training (MK-TOD §3)."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Place, Section
from models.params.lora import LoraParams
from models.params.sources import GgufSpec

MetaKind = Literal["order", "confidence", "cooccurrence"]
Variant = Literal["none", "prefix", "prompt", "contrastive"]
VARIANTS: tuple[str, ...] = get_args(Variant)
Objective = Literal["mml", "emdr2", "pdist", "loop", "adist", "replug"]


class MetaKnowledgeParams(Section):
    """Meta knowledge about a retrieved entity (Tables 10–12 of MK-TOD)."""

    kinds: tuple[MetaKind, ...] = Field(
        ("order", "confidence", "cooccurrence"), min_length=1, description="Kinds used, in the order they are written."
    )
    edges: tuple[float, float] | Literal["calibrated"] = Field(
        (0.25, 0.75),
        description="Scores at which confidence becomes middle and high (published: 0.25, 0.75; footnote 1 has 0.4, 0.75); "
        "`calibrated` = terciles of the retrieved scores on the validation split after the warm start.",
    )

    @model_validator(mode="after")
    def _rising(self) -> "MetaKnowledgeParams":
        if self.edges != "calibrated" and not self.edges[0] < self.edges[1]:
            raise ValueError(f"`edges` must rise, but are {list(self.edges)}")
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"`kinds` must be distinct, but are {list(self.kinds)}")
        return self


TrainedKind = Literal["seq2seq", "causal"]


class PicoT5(Section):
    """A small model from scratch, with a tokenizer trained on the training dialogues and the knowledge base."""

    vocab_size: int = Field(1024, ge=300, description="Entries of its tokenizer.")
    hidden_size: int = Field(96, ge=16, description="Width.")
    num_layers: int = Field(2, ge=1, description="Layers (of a T5: of encoder and decoder each).")
    num_heads: int = Field(4, ge=1, description="Attention heads.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout; what keeps a large T5 from learning by heart slows a small one."
    )

    @model_validator(mode="after")
    def _sizes(self) -> "PicoT5":
        if self.hidden_size % self.num_heads:
            raise ValueError(f"`num_heads` ({self.num_heads}) must divide `hidden_size` ({self.hidden_size})")
        return self


class GeneratorParams(Section):
    """The response generator that is trained: an encoder–decoder (T5), or a causal LM."""

    kind: TrainedKind = Field("seq2seq", description="`seq2seq`: an encoder–decoder (T5); `causal`: any causal LM.")
    model: Place = Field(
        "pico",
        description="`pico` (from scratch), a folder, or a hub name such as google-t5/t5-base; `causal` also: a `.gguf` file, "
        "`package:<module>`, `fused:<method>` (or `fused:<method>/<target>`), `source:<name>` of `sources.models`.",
    )
    revision: str | None = Field(None, description="Hub revision; required for hub names.")
    pico: PicoT5 = Field(default_factory=PicoT5, description="Sizes of the model from scratch.")
    fusion: Literal["fid", "concat"] = Field(
        "fid",
        description="`seq2seq`: `fid`: [context | entity] encoded separately, fused in the decoder; `concat`: one sequence.",
    )
    max_context_tokens: int = Field(200, ge=8, description="Longest context; the oldest words are dropped.")
    max_entity_tokens: int = Field(
        100, ge=8, description="Longest entity with its meta knowledge (`causal`: without); never the name is dropped."
    )
    max_response_tokens: int = Field(64, ge=4, description="Longest response.")
    attributes: tuple[str, ...] | None = Field(None, description="Attributes the generator reads, in this order; null = all.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    chat_template: str | None = Field(
        None, description="`causal`: preset (as in `sources.models`), or null for the tokenizer's own; `pico` has `plain`."
    )
    gguf: GgufSpec | None = Field(None, description="`causal`: how a GGUF file is taken; null = as the defaults say.")
    lora: LoraParams | None = Field(None, description="`causal`: low-rank adapters instead of full training.")

    @model_validator(mode="after")
    def _fits_kind(self) -> "GeneratorParams":
        if self.kind == "seq2seq":
            if given := [name for name in ("chat_template", "gguf", "lora") if getattr(self, name) is not None]:
                raise ValueError(f"`{given[0]}` must be left out unless `kind` is `causal`, but is set")
            if self.model.startswith(("fused:", "source:", "package:")) or self.model.lower().endswith(".gguf"):
                raise ValueError(f"`kind` must be `causal` for the model `{self.model}`, but is `seq2seq`")
        elif self.model == "pico" and (self.pico.hidden_size % (2 * self.pico.num_heads) or self.pico.dropout):
            raise ValueError(
                "`pico` must have a `hidden_size` that is a multiple of twice `num_heads`, and no dropout, for kind `causal`"
            )
        return self


class RefreshParams(Section):
    """When the index is built again while the encoder trains; always before an evaluation."""

    every_steps: int = Field(50, ge=1, description="Optimiser steps between two refreshes.")
    until_step: int | None = Field(
        None, ge=0, description="No refresh (and no retriever training) after this step; null = to the end."
    )


class JointParams(Section):
    """L = α·NLL + β·MML (+ γ·CTR) (eq. 7 and 11 of MK-TOD)."""

    steps: int = Field(1500, ge=0, description="Optimiser steps.")
    generator_steps: int = Field(
        0,
        ge=0,
        description="Steps of the generator alone (retriever frozen, NLL only) before them: for a generator from scratch.",
    )
    generator_entities: Literal["retrieved", "with_positive"] = Field(
        "retrieved",
        description="What the generator reads in `generator_steps`: what was retrieved, or, where that lacks the pseudo positive "
        "(App. D), with it in the place of one drawn by lot: a generator from scratch learns to copy from what has the answer.",
    )
    batch_size: int = Field(64, ge=1, description="Turns per optimiser step, over all processes.")
    micro_batch_size: int = Field(8, ge=1, description="Turns per forward pass and process.")
    retriever_lr: float = Field(1e-4, ge=0, description="Peak learning rate of the retriever; 0 = frozen.")
    generator_lr: float = Field(1e-4, gt=0, description="Peak learning rate of the generator.")
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of the steps for linear warm-up; then linear decay.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping, of retriever and generator separately.")
    alpha: float = Field(1.0, ge=0, description="α: weight of the NLL given all entities.")
    beta: float = Field(1.0, ge=0, description="β: weight of the retriever's objective.")
    gamma: float = Field(1.0, ge=0, description="γ: weight of the contrastive loss (variant `contrastive` only).")
    margin: float = Field(0.01, ge=0, description="λ of eq. 10.")
    contrastive_top: int = Field(3, ge=1, description="|E*|: best ranked entities that must beat no entity (eq. 10).")
    objective: Objective = Field("mml", description="What trains the retriever (docs/concepts.md compares them).")
    marginal: Literal["sequence", "token", "sequence_norm"] = Field(
        "sequence",
        description="`mml`: p(r|c) over whole responses (paper), per token (EMDR2), or whole ones per token of length.",
    )
    score_temperature: float = Field(0.1, gt=0, description="τ of q = softmax(s/τ); 1 = as printed in the paper.")
    learn_temperature: bool = Field(False, description="Let τ be trained, from `score_temperature` on.")
    objective_turns: Literal["all", "with_positive"] = Field(
        "all",
        description="Turns that the retriever's objective reads: all (paper), or those with a pseudo positive (App. D). Where a "
        "response has no value of any entity, likelihoods tell nothing, and the retriever drifts to what suits every turn.",
    )
    target_temperature: float = Field(
        1.0, gt=0, description="Temperature of the likelihood's distribution (pdist, loop, adist, replug)."
    )
    stop_generator: bool = Field(False, description="Keep the retriever's objective from training the generator (EMDR2).")
    negative_entity: Literal["lowest", "next_rank", "random", "none"] = Field(
        "lowest", description="Entity added in training: lowest score of the KB (paper), rank K+1, a random one, or none."
    )
    refresh: RefreshParams = Field(default_factory=RefreshParams, description="Index refresh.")
    every_evaluation: int = Field(100, ge=1, description="Steps between two evaluations on the validation split.")
    validation_limit: int | None = Field(
        None, ge=1, description="Validation turns answered in an evaluation during training; null = all."
    )
    every_checkpoint: int = Field(100, ge=1, description="Steps between two checkpoints (each is also a refresh).")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Autocast dtype; weights stay float32.")

    @model_validator(mode="after")
    def _micro_divides(self) -> "JointParams":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"`micro_batch_size` ({self.micro_batch_size}) must divide `batch_size` ({self.batch_size})")
        return self


class DialogueParams(Section):
    """The dialogue agent: retrieve K entities, attach meta knowledge, generate the response."""

    num_retrieved: int = Field(7, ge=1, description="K: entities given to the generator (fewer where the KB is smaller).")
    meta_knowledge: MetaKnowledgeParams = Field(default_factory=MetaKnowledgeParams, description="Meta knowledge.")
    generator: GeneratorParams = Field(default_factory=GeneratorParams, description="The trained generator.")
    joint: JointParams = Field(default_factory=JointParams, description="Joint training.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of initialisation, order and dropout.")

    @model_validator(mode="after")
    def _generator_serves_objective(self) -> "DialogueParams":
        if self.generator.kind == "causal":
            if self.joint.objective == "adist":
                raise ValueError("`joint.objective` must not be adist for a generator of kind `causal`: it reads cross-attention")
            lora = self.generator.lora
            if lora is not None and lora.base_dtype == "bfloat16" != self.joint.dtype:
                raise ValueError("`generator.lora.base_dtype` must be float32 unless `joint.dtype` is bfloat16")
        return self
