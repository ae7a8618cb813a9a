"""`teach`: what every source says (responses), how sure it is (signals), and who is best (rewards, advantage)."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import Name, Section, repeated


class ResponseParams(Section):
    """Inference mode: every source answers every prompt."""

    backend: Literal["transformers", "http"] = Field(
        "transformers", description="In process, or an OpenAI-compatible server at `runtime.endpoints[source]`."
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest answer in tokens of the source.")
    temperature: float = Field(0.0, ge=0, description="0 = greedy.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus when sampling.")
    num_samples: int = Field(1, ge=1, description="Answers per source and prompt (more than 1 needs temperature > 0).")
    seed: int = Field(0, description="Seed of sampling; each (prompt, sample) derives its own.")
    batch_size: int = Field(32, ge=1, description="Prompts generated together, bucketed by length.")

    @model_validator(mode="after")
    def _samples_need_temperature(self) -> "ResponseParams":
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(f"`num_samples` must be 1 when `temperature` is 0, but is {self.num_samples}")
        return self


class SignalParams(Section):
    """Teacher forcing: cross-entropy and top-k log-probabilities."""

    backend: Literal["transformers", "http"] = Field(
        "transformers", description="In process, or a vLLM server (`prompt_logprobs`) at `runtime.endpoints[source]`."
    )
    top_k: int = Field(10, ge=1, le=1024, description="Log-probabilities kept per position; the rest goes into the tail.")
    batch_tokens: int = Field(8192, ge=64, description="Padded tokens of one forward pass.")


class ScorerSpec(Section):
    """One voter."""

    kind: Literal["reward_model", "judge", "reference"] = Field(
        description="`reward_model`: a sequence classifier of `sources.reward_models`; `judge`: an OpenAI-compatible "
        "endpoint that grades; `reference`: chrF similarity to the ground truth (sacrebleu)."
    )
    name: Name = Field(description="Name of the reward model or endpoint, or any label for `reference`.")
    model: str = Field("", description="`judge` only: model name sent to the endpoint.")
    max_tokens: int = Field(256, ge=1, description="`judge` only: longest reply in tokens; a model that reasons needs thousands.")


class RewardParams(Section):
    """Several scorers vote for the best answer (RM_Vote, eq. 2)."""

    scorers: tuple[ScorerSpec, ...] = Field(min_length=1, description="The voters.")
    batch_size: int = Field(32, ge=1, description="Answers scored together by a reward model.")

    @model_validator(mode="after")
    def _distinct(self) -> "RewardParams":
        if twice := repeated(s.name for s in self.scorers):
            raise ValueError(f"`scorers` must have distinct names, but has {twice}")
        return self


class AdvantageParams(Section):
    """Comparison of the sources."""

    ce_unit: Literal["byte", "token"] = Field(
        "byte",
        description="Cross-entropy per byte of the same text (fair across tokenizers), or per token as the ancestors.",
    )


class TeachParams(Section):
    """Everything the sources are asked."""

    responses: ResponseParams = Field(default_factory=ResponseParams, description="Answers of the sources.")
    signals: SignalParams = Field(default_factory=SignalParams, description="Distributions of the sources.")
    rewards: RewardParams = Field(description="Votes on the answers.")
    advantage: AdvantageParams = Field(default_factory=AdvantageParams, description="Who is best.")
    shard_size: int = Field(256, ge=1, description="Examples per shard, the unit of resume.")
    prompt_overflow: Literal["truncate_left", "error"] = Field(
        "truncate_left",
        description="A prompt longer than the context loses its beginning (counted), or stops the stage.",
    )
