"""`dialogue_evaluation`: what is scored on the held-out dialogues, and which further generators answer."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Name, Place, Section, repeated
from models.params.dialogues import DistractorKind

GeneratorKind = Literal["causal", "openai"]


class InContextParams(Section):
    """A generator that is not trained here: it reads the retrieved entities and demonstrations in its prompt."""

    name: Name = Field(description="Name in tables and files.")
    kind: GeneratorKind = Field("causal", description="A local causal LM, or an OpenAI-compatible endpoint.")
    model: str = Field(
        description="`causal`: `fused:<method>` (or `fused:<method>/<target>`), or `source:<name>` of `sources.models`; "
        "`openai`: the model's name at the endpoint `runtime.endpoints.<name>`."
    )
    retriever: str = Field("prompt", description="Variant whose trained retriever feeds it.")
    meta_knowledge: tuple[Literal["none", "prefix", "prompt"], ...] = Field(
        ("none", "prompt"), min_length=1, description="How meta knowledge is written into its prompt; one system each."
    )
    demonstrations: int = Field(2, ge=0, description="Training turns of the same domain shown in the prompt, most similar first.")
    max_prompt_tokens: int = Field(
        2048, ge=64, description="Longest prompt (`openai`: counted by tiktoken's or 4 bytes a token)."
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest response.")
    requests_per_minute: float = Field(0, ge=0, description="`openai`: rate limit; 0 = none.")
    limit: int | None = Field(None, ge=1, description="Held-out turns it answers; null = all.")


class UnseenParams(Section):
    """The retriever of one variant on renewed data: is it the names that it has learned?"""

    variant: str | None = Field(None, description="Variant whose retriever is tried; null = none.")
    values: bool = Field(True, description="On names, addresses, phones and postcodes that no training turn has.")
    distractors: int = Field(0, ge=0, description="With so many new entities added to the knowledge base; 0 = not.")
    distractor_kinds: tuple[DistractorKind, ...] = Field(
        ("alike", "apart"), min_length=1, description="Kinds of them (`dialogues.renew.distractor_kind`); a test each."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the new values.")


class DialogueEvaluationParams(Section):
    """Scores of every variant, the warm start and the floors."""

    split: Literal["test", "valid"] = Field("test", description="Split that is scored.")
    limit: int | None = Field(None, ge=1, description="Held-out turns; null = all.")
    recall_at: tuple[int, ...] = Field((1, 3, 5, 7), min_length=1, description="k of recall@k.")
    num_beams: int = Field(1, ge=1, description="Beams of the trained generator; 1 = greedy.")
    batch_size: int = Field(32, ge=1, description="Turns answered together.")
    count_api: bool = Field(False, description="Count API turns in the scores, as the paper's CamRest numbers do.")
    value_attributes: tuple[str, ...] | None = Field(
        None, description="Attributes whose values recall by value and the floors look at; null = all."
    )
    text_rule: Literal["all_scripts", "published"] = Field(
        "all_scripts",
        description="How values and words are compared in recall by value, the floors, annotated F1 and hallucination: "
        "`all_scripts` keeps letters and digits of every script (and finds values inside text without blanks); `published` "
        "keeps a–z, 0–9 and `:` only, as the published figures of the English data sets do.",
    )
    entity_list: Place = Field(
        "", description="JSON list of the values Entity F1 looks for; empty = those of the knowledge base."
    )
    in_context: tuple[InContextParams, ...] = Field((), description="Further generators over a trained retriever.")
    unseen: UnseenParams = Field(default_factory=UnseenParams, description="Retrieval of entities never seen in training.")
    bootstrap_samples: int = Field(2000, ge=100, description="Resamples (of dialogues) of the paired bootstrap.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the bootstrap.")

    @model_validator(mode="after")
    def _distinct(self) -> "DialogueEvaluationParams":
        if min(self.recall_at) < 1 or len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError(f"`recall_at` must hold whole numbers from 1, each once, but has {list(self.recall_at)}")
        if twice := repeated(s.name for s in self.in_context):
            raise ValueError(f"`in_context` must have distinct names, but has {twice}")
        return self
