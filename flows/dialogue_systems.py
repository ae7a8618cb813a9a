"""Systems scored in the dialogue pipeline: their names, inputs and result files."""

from flows.context import StageContext
from models.evaluation.dialogue.system import DialogueSystem
from models.params.dialogue_evaluation import UnseenParams
from models.params.dialogues import RenewParams

FLOORS = ("frequency", "bm25")
# Responses that no generator makes: what training says most, and the first entity of word matching.
RESPONSE_FLOORS = ("null", "copy_first")
WARM_START = "warm-start"
GENERATOR = "best_generator/retriever"  # the retriever an agent answers with, in the output of joint training


def dialogue_systems(ctx: StageContext) -> list[DialogueSystem]:
    """Return every system, in the order of tables."""
    params = ctx.params
    systems = [DialogueSystem(v, "variant", meta_knowledge=v) for v in params.variants]
    systems += [DialogueSystem(v, "retriever") for v in params.variants]
    systems += [DialogueSystem("warm_start", "warm_start"), *(DialogueSystem(floor, "floor") for floor in FLOORS)]
    if params.retriever.scoring == "hybrid":
        systems += [DialogueSystem(name, "dense") for name in ("warm_start", *params.variants)]
    systems += [DialogueSystem(floor, "response_floor") for floor in RESPONSE_FLOORS]
    for spec in params.dialogue_evaluation.in_context:
        systems += [DialogueSystem(spec.name, "in_context", style, spec.retriever) for style in spec.meta_knowledge]
    unseen = params.dialogue_evaluation.unseen
    if unseen.variant is not None:
        systems += [DialogueSystem(unseen.variant, "unseen", test=test) for test in unseen_renewals(unseen)]
    return systems


def unseen_renewals(unseen: UnseenParams) -> dict[str, RenewParams]:
    """Return how the data are renewed for each test on unseen entities, by the test's name."""
    renewals = {"new values": RenewParams(values=True, seed=unseen.seed)} if unseen.values else {}
    for kind in unseen.distractor_kinds if unseen.distractors else ():
        name = f"{unseen.distractors} distractors" + (" apart" if kind == "apart" else "")
        renewals[name] = RenewParams(distractors=unseen.distractors, distractor_kind=kind, seed=unseen.seed)
    return renewals


def run_name(variant: str) -> str:
    """Return the name of a variant's MLflow run."""
    return f"dialogue-{variant}"


def in_context_run_name(system: DialogueSystem) -> str:
    """Return the name of an in-context generator's MLflow run."""
    return f"in-context-{system.name}-{system.meta_knowledge}"
