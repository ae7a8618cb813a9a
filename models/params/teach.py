"""`teach`: responses and signals of every source, and selection of winners (rewards, advantage)."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from models.params.base import MAX_SEED, Name, Place, Section, repeated


class ResponseParams(Section):
    """Inference mode: every source answers every prompt."""

    backend: Literal["transformers", "http"] = Field(
        "transformers",
        description="In process, or a server (vLLM: `/completions` with token ids) at `runtime.endpoints[source]`.",
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest answer in tokens of the source.")
    temperature: float = Field(0.0, ge=0, description="0 = greedy.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus when sampling.")
    num_samples: int = Field(1, ge=1, description="Answers per source and prompt (more than 1 needs temperature > 0).")
    greedy_first: bool = Field(
        False, description="The first of several answers is the greedy one: what is voted on then includes what one answer gives."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of sampling; each (prompt, sample) derives its own.")
    batch_size: int = Field(32, ge=1, description="Prompts generated together, bucketed by length.")

    @model_validator(mode="after")
    def _samples_need_temperature(self) -> "ResponseParams":
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(f"`num_samples` must be 1 when `temperature` is 0, but is {self.num_samples}")
        if self.greedy_first and self.num_samples == 1:
            raise ValueError("`num_samples` must be at least 2 when `greedy_first` is true, but is 1")
        return self

    def is_greedy(self, sample: int) -> bool:
        """Whether an answer is decoded greedily, whatever its number of samples."""
        return self.temperature == 0 or (self.greedy_first and sample == 0)


class SignalParams(Section):
    """Teacher forcing: cross-entropy and top-k log-probabilities."""

    backend: Literal["transformers", "http"] = Field(
        "transformers", description="In process, or a vLLM server (`prompt_logprobs`) at `runtime.endpoints[source]`."
    )
    top_k: int = Field(10, ge=1, le=1024, description="Log-probabilities kept per position; the rest goes into the tail.")
    batch_tokens: int = Field(8192, ge=64, description="Padded tokens of one forward pass.")


ScorerKind = Literal["confidence", "check", "embedding", "reference", "reward_model", "judge"]
Accept = Literal["all", "majority", "margin", "calibrated"]
Winner = Literal["vote", "random", "oracle"]


class _Traits(NamedTuple):
    sees_truth: bool
    grades: bool
    names_model: bool = False


_TRAITS: Mapping[ScorerKind, _Traits] = {
    "confidence": _Traits(sees_truth=False, grades=False),
    "check": _Traits(sees_truth=True, grades=False),
    "embedding": _Traits(sees_truth=True, grades=True, names_model=True),
    "reference": _Traits(sees_truth=True, grades=True),
    "reward_model": _Traits(sees_truth=False, grades=True),
    "judge": _Traits(sees_truth=False, grades=True, names_model=True),
}


class ScorerSpec(Section):
    """One voter."""

    kind: ScorerKind = Field(
        description="Without the ground truth: `confidence` (minus the cross-entropy per byte of an answer under the source that "
        "gave it), `reward_model` (a sequence classifier of `sources.reward_models`), `judge` (an OpenAI-compatible endpoint "
        "that grades). With it: `check` (1 or 0 by the row's own check; it abstains on rows without one), `reference` (chrF of "
        "sacrebleu), `embedding` (cosine of a sentence encoder)."
    )
    name: Name = Field(description="Name of the reward model or endpoint; any label for the other kinds.")
    model: Place = Field(
        "",
        description="`judge`: model name sent to the endpoint. `embedding`: the encoder, a folder, `package:<module>` (its "
        "folder `model`), or a hub name.",
    )
    max_tokens: int = Field(256, ge=1, description="`judge` only: longest reply in tokens; a model that reasons needs thousands.")
    revision: str | None = Field(None, description="`embedding` only: hub revision; required for hub names.")

    @property
    def sees_truth(self) -> bool:
        """Whether it compares with the ground truth or its answer; the others judge what a user could judge, too."""
        return _TRAITS[self.kind].sees_truth

    @property
    def grades(self) -> bool:
        """Whether its scores compare answers of any model: not a source's own confidence, nor `check`, which is `accuracy`."""
        return _TRAITS[self.kind].grades

    @model_validator(mode="after")
    def _model_fits_kind(self) -> "ScorerSpec":
        if self.kind == "embedding" and not self.model:
            raise ValueError("`model` must name an encoder when `kind` is `embedding`, but is empty")
        if self.model and not _TRAITS[self.kind].names_model:
            raise ValueError(f"`model` must be empty when `kind` is `{self.kind}`, but is {self.model}")
        if self.revision is not None and self.kind != "embedding":
            raise ValueError(f"`revision` must be null when `kind` is `{self.kind}`, but is {self.revision}")
        return self


def even_voters(scorers: Sequence[ScorerSpec]) -> list[str]:
    """Return the warning of an even number of voters, if it is one."""
    if len(scorers) % 2:
        return []
    return [
        f"`teach.rewards.scorers` has an even number of voters ({len(scorers)}): where one half disagrees with the other, their "
        "mean z-scored reward decides. Add or remove one."
    ]


class VoteParams(Section):
    """Which answers may win, and how sure a vote must be."""

    truncated_may_win: bool = Field(
        False,
        description="Whether an answer cut at `responses.max_new_tokens` may win. If not, a prompt to which nobody gave a "
        "finished answer has no winner.",
    )
    winner: Winner = Field(
        "vote",
        description="Who names the winner. `vote`: the scorers (eq. 2). For ablations: `random`, a source drawn for each prompt; "
        "`oracle`, what is known of the prompt: an answer that passes the row's check (in the embedded world known of prompts "
        "without a ground truth too), without a check the one most like the ground truth; nobody if all are wrong.",
    )
    winner_seed: int = Field(0, ge=0, le=MAX_SEED, description="`winner: random` only: seed; each prompt derives its own.")
    accept: Accept = Field(
        "all",
        description="Which winners are taught. `all`; `majority`: named best by more than half of the voters; `margin`: leading "
        "the best other answer by `accept_margin`; `calibrated`: scored above the threshold at which winners on the validation "
        "split reach `accept_target`. A prompt without a winner takes no part in inference mode.",
    )
    accept_margin: float = Field(0.5, ge=0, description="`margin` only: lead in mean z-scored reward.")
    accept_target: float = Field(
        0.95,
        gt=0,
        le=1,
        description="`calibrated` only: wanted quality of the winners: the share that is right, where the validation split has "
        "answers to check, otherwise mean chrF to the ground truth / 100.",
    )


class RewardParams(VoteParams):
    """Several scorers vote for the best answer (RM_Vote, eq. 2)."""

    scorers: tuple[ScorerSpec, ...] = Field(
        min_length=1, description="The voters; an odd number, so that two of them do not cancel each other."
    )
    batch_size: int = Field(32, ge=1, description="Answers scored together by a reward model or an encoder.")
    validation_prompts: int = Field(
        256, ge=0, description="Prompts of the validation split on which the scorers themselves are judged; 0 = not at all."
    )

    @property
    def vote(self) -> VoteParams:
        """The rules of the vote, without values that what was chosen does not use."""
        kept: dict[str, object] = {"truncated_may_win": self.truncated_may_win, "accept": self.accept}
        if self.winner != "vote":
            kept["winner"] = self.winner
        if self.winner == "random":
            kept["winner_seed"] = self.winner_seed
        if self.accept == "margin":
            kept["accept_margin"] = self.accept_margin
        if self.accept == "calibrated":
            kept["accept_target"] = self.accept_target
        return VoteParams.model_validate(kept)

    @model_validator(mode="after")
    def _gate_has_vote(self) -> "RewardParams":
        if self.winner != "vote" and self.accept != "all":
            raise ValueError(f"`accept` must be `all` when `winner` is `{self.winner}`, as no vote decides, but is {self.accept}")
        return self

    @model_validator(mode="after")
    def _calibration_has_prompts(self) -> "RewardParams":
        if self.accept == "calibrated" and not self.validation_prompts:
            raise ValueError("`validation_prompts` must be greater than 0 when `accept` is `calibrated`, but is 0")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> "RewardParams":
        if twice := repeated(s.name for s in self.scorers):
            raise ValueError(f"`scorers` must have distinct names, but has {twice}")
        return self


class AdvantageParams(Section):
    """Comparison of the sources."""

    ce_unit: Literal["byte", "token"] = Field(
        "byte",
        description="Cross-entropy per byte of the same text (fair across tokenizers), or per token as in FuseLLM.",
    )


class TeachParams(Section):
    """Everything the sources are asked."""

    responses: ResponseParams = Field(default_factory=ResponseParams, description="Answers of the sources.")
    signals: SignalParams = Field(default_factory=SignalParams, description="Distributions of the sources.")
    rewards: RewardParams = Field(description="Votes on the answers.")
    advantage: AdvantageParams = Field(default_factory=AdvantageParams, description="Selection of the winning source.")
    shard_size: int = Field(256, ge=1, description="Examples per shard, the unit of resume.")
    prompt_overflow: Literal["truncate_left", "error"] = Field(
        "truncate_left",
        description="A prompt longer than the context loses its beginning (counted), or stops the stage.",
    )
