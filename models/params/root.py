"""All sections together. Only flows read this; a step receives just its own sections."""

from typing import Literal

from pydantic import Field, model_validator

from models.params.alignment import AlignmentParams
from models.params.base import Section
from models.params.corpus import CorpusParams
from models.params.evaluation import EvaluationParams
from models.params.fusion import METHODS, FusionParams, Method
from models.params.runtime import Planning, Runtime, Tracking
from models.params.sources import SourcesParams
from models.params.teach import TeachParams


class Params(Section):
    """params.yaml with its profile and overrides applied."""

    profile: str = Field("embedded", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Overlay profiles/<profile>.yaml.")
    methods: tuple[Literal[Method, "custom"], ...] = Field(
        ("sft", "fusellm", "profuser"),
        min_length=1,
        description=f"Fusion methods to train: {', '.join(METHODS)}, custom.",
    )
    corpus: CorpusParams = Field(description="Instruction data.")
    sources: SourcesParams = Field(description="Models to be fused.")
    teach: TeachParams = Field(description="Responses, signals, rewards, advantage.")
    alignment: AlignmentParams = Field(default_factory=AlignmentParams, description="Source tokens to target tokens.")
    fusion: FusionParams = Field(description="Training of the target.")
    evaluation: EvaluationParams = Field(default_factory=EvaluationParams, description="Held-out scores.")
    runtime: Runtime = Field(default_factory=Runtime, description="Execution choices; never part of a cache key.")
    planning: Planning = Field(default_factory=Planning, description="Assumptions of `plan`; never part of a cache key.")
    tracking: Tracking = Field(default_factory=Tracking, description="MLflow; never part of a cache key.")

    @model_validator(mode="after")
    def _cross_checks(self) -> "Params":
        """Check what spans sections; all findings in one error, one a line."""
        faults = []
        known = [s.name for s in self.sources.models]
        missing = [t for t in self.fusion.targets if t not in known]
        if missing:
            faults.append(f"`fusion.targets` must be names of `sources.models` ({', '.join(known)}), but has {missing}")
        if "custom" in self.methods and self.fusion.schedule is None:
            faults.append("`fusion.schedule` must be given when `methods` has `custom`")
        judges = {r.name for r in self.sources.reward_models}
        lost = [s.name for s in self.teach.rewards.scorers if s.kind == "reward_model" and s.name not in judges]
        if lost:
            faults.append(f"`teach.rewards.scorers` must name entries of `sources.reward_models`, but has {lost}")
        if faults:
            raise ValueError("\n".join(faults))
        return self
