"""THE table of stages. dvc.yaml, the command line and the docs are derived from it or tested against it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tasks.code_identity import INFRASTRUCTURE, reach

# Which cache, which tracker, which engine, how params are read: editing these changes no result.
MACHINERY = INFRASTRUCTURE | {"flows.context", "flows.parallel", "flows.stages"}


Half = Literal["fusion", "dialogue"]
HALVES: tuple[Half, ...] = ("fusion", "dialogue")


@dataclass(frozen=True, slots=True)
class Stage:
    """One DVC stage = one flow.

    Attributes:
        name: Stage name.
        entry: `module:function` of its body; the flow of the same module has the same name as the stage.
        summary: One line for help and docs.
        sections: Params (dotted) that its result depends on.
        inputs: Stages whose outputs it reads; `prepare/corpus` is one part of them.
        matrix: Top-level params list it is repeated over, or None.
        halves: Which of the flows `fusion` and `dialogue` it belongs to.
        reports: Files below reports/<profile>/ it writes for `dvc metrics` and `dvc plots` (versioned by git).
    """

    name: str
    entry: str
    summary: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    matrix: Literal["methods", "variants"] | None = None
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    halves: tuple[Half, ...] = ("fusion",)

    @property
    def item(self) -> str:
        """What one entry of the matrix is called: `method` or `variant`; empty without a matrix."""
        return self.matrix.removesuffix("s") if self.matrix else ""

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the stages it reads from."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.inputs))

    @property
    def module(self) -> str:
        """Module of the flow."""
        return self.entry.partition(":")[0]

    def code(self) -> dict[str, str]:
        """Return module → sha256 of what its body reaches in it, without the machinery that runs and records."""
        return reach(self.entry, without=MACHINERY).code

    def body(self) -> Callable[..., Any]:
        """Import and return the stage's body."""
        module, _, function = self.entry.partition(":")
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


STAGES: tuple[Stage, ...] = (
    Stage(
        "prepare",
        "flows.prepare:prepare_stage",
        "Read, validate and split instructions, dialogues and knowledge base, or generate the embedded world.",
        sections=("corpus", "dialogues"),
        halves=("fusion", "dialogue"),
    ),
    Stage(
        "sources",
        "flows.sources:sources_stage",
        "Resolve the source models, or train the embedded ones and their reward model.",
        # The world, for embedded sources with answers of their own.
        sections=("sources", "corpus.world"),
        inputs=("prepare/corpus",),
    ),
    Stage(
        "teach",
        "flows.teach:teach_stage",
        "Let every source answer and score; vote; find who is best in both modes.",
        sections=("teach",),
        inputs=("prepare/corpus", "prepare/answers", "sources"),
    ),
    Stage(
        "fuse",
        "flows.fuse:fuse_stage",
        "Align the winners' distributions to the target and train it with one method.",
        sections=("alignment", "fusion"),
        inputs=("prepare/corpus", "sources", "teach"),
        matrix="methods",
    ),
    Stage(
        "evaluate_fusion",
        "flows.evaluate:evaluate_fusion_stage",
        "Score every source, the untrained target and every method on the held-out split.",
        sections=("evaluation", "teach.rewards.scorers", "teach.rewards.batch_size", "fusion.targets"),
        inputs=("prepare/corpus", "sources", "fuse"),
        metrics=("fusion.json",),
        plots=("scores.csv",),
    ),
    Stage(
        "benchmark",
        "flows.benchmark:benchmark_stage",
        "Score the same models on standard benchmarks, through lm-evaluation-harness; none by default.",
        sections=("benchmark", "fusion.targets"),
        inputs=("sources", "fuse"),
        metrics=("benchmark.json",),
    ),
    Stage(
        "train_dialogue",
        "flows.train_dialogue:train_dialogue_stage",
        "Warm-start the retriever and train it jointly with the response generator, with one kind of meta knowledge.",
        sections=("retriever", "index", "dialogue"),
        inputs=("prepare/dialogues",),
        matrix="variants",
        halves=("dialogue",),
    ),
    Stage(
        "evaluate_dialogue",
        "flows.evaluate_dialogue:evaluate_dialogue_stage",
        "Score every variant, the warm start, the floors and the in-context generators on the held-out dialogues.",
        sections=(
            "dialogue_evaluation",
            "index",
            "dialogue.num_retrieved",
            "dialogue.meta_knowledge",
            "variants",
            "retriever.scoring",
        ),
        # The fused model is one of the generators.
        inputs=("prepare/dialogues", "sources", "fuse", "train_dialogue"),
        metrics=("dialogue.json",),
        plots=("dialogue_scores.csv", "recall.csv"),
        halves=("dialogue",),
    ),
    Stage(
        "report",
        "flows.report:report_stage",
        "Write the result pages, the tables and the plots.",
        sections=("profile", "methods", "variants"),
        inputs=(
            "prepare",
            "sources",
            "teach",
            "fuse",
            "evaluate_fusion",
            "benchmark",
            "train_dialogue",
            "evaluate_dialogue",
        ),
        halves=("fusion", "dialogue"),
        plots=("wins.csv", "agreement.csv", "loss.csv"),
    ),
)
