"""`retriever`: encoders of contexts and entities, and their warm start."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Place, Section


class PicoEncoder(Section):
    """A small BERT-like encoder from scratch, with a WordPiece tokenizer trained on the training dialogues and the KB."""

    vocab_size: int = Field(1024, ge=200, description="Entries of its tokenizer.")
    hidden_size: int = Field(96, ge=16, description="Width.")
    num_layers: int = Field(2, ge=1, description="Layers.")
    num_heads: int = Field(4, ge=1, description="Attention heads.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of layers and attention.")


class WarmStartParams(Section):
    """Distant supervision (MK-TOD, App. D): the pseudo positive of each turn against the others' in the batch."""

    steps: int = Field(200, ge=0, description="Optimiser steps; 0 = no warm start.")
    batch_size: int = Field(24, ge=2, description="Turns per step.")
    negatives: int = Field(8, ge=0, description="Further entities per step, drawn from the KB.")
    hard_negatives: int = Field(
        0, ge=0, description="Further entities per turn: best ranked of the present encoder that are not positive."
    )
    look_alikes: int = Field(
        0,
        ge=0,
        description="Further negatives per turn, made up: as the positive, but for one value (or the name) that the context "
        "tells; they teach the encoder, not the weights of hybrid scoring.",
    )
    temperature: float = Field(0.05, gt=0, description="τ of the contrastive loss.")
    lr: float = Field(5e-5, gt=0, description="Peak learning rate of the encoder.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps for linear warm-up; then linear decay.")
    mask_duplicates: bool = Field(
        True,
        description="No negatives are: other turns' positives equal to one's own, entities that explain the turn's values as "
        "well, and those that have a value of the response which one's own has not.",
    )
    positive: Literal["recent", "published"] = Field(
        "recent",
        description="Pseudo positive where the response names no entity: the latest one named in the context that explains its "
        "values, or as published (most values in response, then in context).",
    )
    any_positive: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of a second loss in which any entity that explains the values is right; the first has the rest.",
    )
    logq_correction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much of log q is taken off each logit, q = how likely its entity is to be in the batch. At 0, as "
        "published, entities that are spoken of often are disfavoured; at 1 the scores learn how often an entity is spoken of.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Autocast dtype; weights stay float32.")
    every_evaluation: int = Field(
        50, ge=1, description="Steps between two recalls on the validation split (the best is kept), and two checkpoints."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of order, negatives and dropout.")


class LexicalParams(Section):
    """Lexical evidence of hybrid scoring: an entity's name and values found in the context, and BM25 of its words."""

    attributes: tuple[str, ...] | None = Field(
        None, description="Attributes whose values and words are looked for; null = all. The name is in any case."
    )
    recency: float = Field(
        0.7, gt=0, le=1, description="What the recent mention of a name or value counts for, to the power of its utterance's age."
    )
    k1: float = Field(1.5, gt=0, description="BM25: saturation of repeated words.")
    b: float = Field(0.75, ge=0, le=1, description="BM25: weight of an entity's length.")
    candidates: int = Field(
        1024,
        ge=16,
        description="Best entities by vector, and as many by lexical evidence, whose exact scores are compared; a knowledge base "
        "of no more entities is compared whole.",
    )
    lr_factor: float = Field(30.0, gt=0, description="Learning rate of the score's weights, as a multiple of the encoder's.")


class RetrieverParams(Section):
    """The retriever: how a context and an entity are scored (dense: s = cos(h_c, h_e), §3.2 of MK-TOD)."""

    scoring: Literal["dense", "hybrid"] = Field(
        "dense",
        description="`dense`: the cosine of both vectors (paper). `hybrid`: a weighted sum of the cosine and lexical evidence, "
        "with weights that warm start and joint training learn.",
    )
    lexical: LexicalParams = Field(default_factory=LexicalParams, description="Lexical evidence (hybrid scoring only).")

    encoder: Place = Field(
        "pico", description="`pico` (from scratch), a folder, `package:<module>` (its folder `model`), or a hub name."
    )
    revision: str | None = Field(None, description="Hub revision; required for hub names.")
    pico: PicoEncoder = Field(default_factory=PicoEncoder, description="Sizes of the encoder from scratch.")
    untied: bool = Field(False, description="Separate encoders for contexts and entities.")
    pooling: Literal["auto", "mean", "cls", "max", "last"] = Field(
        "auto",
        description="How token states become one vector: mean or maximum over all tokens, or the state of the first (`cls`) or "
        "last one. `auto`: as the encoder's own 1_Pooling/config.json says, else `mean`.",
    )
    projection: int = Field(0, ge=0, description="Width of a dense + tanh projection; 0 = none (128 in MAKER).")
    max_context_tokens: int = Field(128, ge=8, description="Longest context; the oldest words are dropped.")
    max_entity_tokens: int = Field(128, ge=8, description="Longest entity; its last attributes are dropped, never the name.")
    max_utterances: int | None = Field(None, ge=1, description="Latest utterances the encoder reads; null = all.")
    attributes: tuple[str, ...] | None = Field(
        None, description="Attributes the encoder reads after the name, in this order; null = all."
    )
    domain: bool = Field(
        False, description="Write the domain of an entity after its name: where no attribute says what kind of thing it is."
    )
    role_marks: bool = Field(True, description="Write `user` or `system` before each utterance.")
    normalise: bool = Field(
        False,
        description="Read letters and digits only, in lower case: where training and test text differ in punctuation.",
    )
    warm_start: WarmStartParams = Field(default_factory=WarmStartParams, description="Distant supervision.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of what is initialised at random.")

    @model_validator(mode="after")
    def _sizes(self) -> "RetrieverParams":
        if self.pico.hidden_size % self.pico.num_heads:
            raise ValueError(f"`pico.num_heads` ({self.pico.num_heads}) must divide `pico.hidden_size` ({self.pico.hidden_size})")
        return self
