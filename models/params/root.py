"""All sections together. Only flows read this; a step receives just its own sections."""

from pydantic import Field, model_validator

from models.params.alignment import AlignmentParams
from models.params.base import Section, repeated
from models.params.benchmark import BenchmarkParams
from models.params.corpus import CorpusParams
from models.params.dialogue import VARIANTS, DialogueParams, Variant
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.params.dialogues import DialoguesParams
from models.params.evaluation import EvaluationParams
from models.params.fusion import METHODS, FusionParams
from models.params.index import IndexParams
from models.params.retriever import RetrieverParams
from models.params.runtime import Planning, Runtime, Tracking
from models.params.sources import SourcesParams
from models.params.teach import TeachParams


class Params(Section):
    """params.yaml with its profile and overrides applied."""

    profile: str = Field("embedded", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Overlay profiles/<profile>.yaml.")
    methods: tuple[str, ...] = Field(
        ("sft", "fusellm", "profuser"),
        min_length=1,
        description=f"Fusion methods to train: {', '.join(METHODS)}, or names of `fusion.schedules`.",
    )
    variants: tuple[Variant, ...] = Field(
        VARIANTS,  # type: ignore[arg-type]
        min_length=1,
        description=f"Kinds of meta knowledge to train the dialogue agent with: {', '.join(VARIANTS)}.",
    )
    corpus: CorpusParams = Field(description="Instruction data.")
    sources: SourcesParams = Field(description="Models to be fused.")
    teach: TeachParams = Field(description="Responses, signals, rewards, advantage.")
    alignment: AlignmentParams = Field(default_factory=AlignmentParams, description="Source tokens to target tokens.")
    fusion: FusionParams = Field(description="Training of the target.")
    evaluation: EvaluationParams = Field(default_factory=EvaluationParams, description="Held-out scores.")
    benchmark: BenchmarkParams = Field(default_factory=BenchmarkParams, description="Standard benchmarks.")
    dialogues: DialoguesParams = Field(default_factory=DialoguesParams, description="Dialogues and knowledge base.")
    retriever: RetrieverParams = Field(default_factory=RetrieverParams, description="Encoders and their warm start.")
    index: IndexParams = Field(default_factory=IndexParams, description="FAISS index over the entities.")
    dialogue: DialogueParams = Field(default_factory=DialogueParams, description="The dialogue agent and its joint training.")
    dialogue_evaluation: DialogueEvaluationParams = Field(
        default_factory=DialogueEvaluationParams, description="Held-out dialogue scores."
    )
    runtime: Runtime = Field(default_factory=Runtime, description="Execution choices; never part of a cache key.")
    planning: Planning = Field(default_factory=Planning, description="Assumptions of `plan`; never part of a cache key.")
    tracking: Tracking = Field(default_factory=Tracking, description="MLflow; never part of a cache key.")

    @model_validator(mode="after")
    def _cross_checks(self) -> "Params":
        """Check what spans sections; all findings in one error, one a line."""
        faults = []
        for key, names in (("methods", self.methods), ("variants", self.variants), ("fusion.targets", self.fusion.targets)):
            if twice := repeated(names):
                faults.append(f"`{key}` must be distinct, but has {twice}")
        known = [s.name for s in self.sources.models]
        if taken := sorted(set(known) & {*METHODS, *self.fusion.schedules}):
            faults.append(f"`sources.models` must not be called like methods, as they share tables, but has {taken}")
        missing = [t for t in self.fusion.targets if t not in known]
        if missing:
            faults.append(f"`fusion.targets` must be names of `sources.models` ({', '.join(known)}), but has {missing}")
        faults += self._method_faults()
        judges = {r.name for r in self.sources.reward_models}
        lost = [s.name for s in self.teach.rewards.scorers if s.kind == "reward_model" and s.name not in judges]
        if lost:
            faults.append(f"`teach.rewards.scorers` must name entries of `sources.reward_models`, but has {lost}")
        faults += self._dialogue_faults()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _method_faults(self) -> list[str]:
        """Check that methods are presets or schedules."""
        known = (*METHODS, *self.fusion.schedules)
        rule = f"must be one of {', '.join(f'`{name}`' for name in known)}"
        return [f"`methods[{i}]` {rule}" for i, method in enumerate(self.methods) if method not in known]

    def _dialogue_faults(self) -> list[str]:
        """Check what the dialogue half takes from other sections."""
        faults = []
        known = {f"source:{s.name}" for s in self.sources.models}
        known |= {f"fused:{m}" for m in self.methods} | {f"fused:{m}/{t}" for m in self.methods for t in self.fusion.targets}
        for i, system in enumerate(self.dialogue_evaluation.in_context):
            key = f"dialogue_evaluation.in_context[{i}]"
            if system.retriever not in self.variants:
                variants = ", ".join(self.variants)
                faults.append(f"`{key}.retriever` must be one of `variants` ({variants}), but is {system.retriever}")
            if system.kind == "causal" and system.model not in known:
                faults.append(f"`{key}.model` must be one of {', '.join(sorted(known))}, but is {system.model}")
        unseen = self.dialogue_evaluation.unseen.variant
        if unseen is not None and unseen not in self.variants:
            variants = ", ".join(self.variants)
            faults.append(f"`dialogue_evaluation.unseen.variant` must be one of `variants` ({variants}), but is {unseen}")
        if self.dialogue.joint.contrastive_top > self.dialogue.num_retrieved and "contrastive" in self.variants:
            faults.append(
                f"`dialogue.joint.contrastive_top` must not exceed `dialogue.num_retrieved` ({self.dialogue.num_retrieved}), "
                f"but is {self.dialogue.joint.contrastive_top}"
            )
        return faults
