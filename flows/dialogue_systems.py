"""Systems scored in the dialogue pipeline: their names, inputs and result files."""

from collections.abc import Mapping

from flows.context import StageContext
from models.params.dialogue_evaluation import UnseenParams
from models.params.dialogues import RenewParams

FLOORS = ("frequency", "bm25")
# Responses that no generator makes: what training says most, and the first entity of word matching.
RESPONSE_FLOORS = ("null", "copy_first")
WARM_START = "warm-start"
GENERATOR = "best_generator/retriever"  # the retriever an agent answers with, in the output of joint training
DialogueKey = dict[str, str]


def dialogue_systems(ctx: StageContext) -> list[DialogueKey]:
    """Return {name, kind, meta_knowledge, retriever} of every system, in the order of tables."""
    params = ctx.params
    systems = [_system(v, "variant", meta=v) for v in params.variants]
    systems += [_system(f"{v} (best retriever)", "retriever", retriever=v) for v in params.variants]
    systems += [_system("warm_start", "warm_start"), *(_system(floor, "floor") for floor in FLOORS)]
    systems += [_system(floor, "response_floor") for floor in RESPONSE_FLOORS]
    for spec in params.dialogue_evaluation.in_context:
        systems += [_system(spec.name, "in_context", meta=style, retriever=spec.retriever) for style in spec.meta_knowledge]
    unseen = params.dialogue_evaluation.unseen
    if unseen.variant is not None:
        systems += [_system(f"{unseen.variant}, {part}", "unseen", retriever=unseen.variant) for part in unseen_renewals(unseen)]
    return systems


def unseen_renewals(unseen: UnseenParams) -> dict[str, RenewParams]:
    """Return how the data are renewed for each test on unseen entities, by the test's name."""
    renewals = {"new values": RenewParams(values=True, seed=unseen.seed)} if unseen.values else {}
    for kind in unseen.distractor_kinds if unseen.distractors else ():
        name = f"{unseen.distractors} distractors" + (" apart" if kind == "apart" else "")
        renewals[name] = RenewParams(distractors=unseen.distractors, distractor_kind=kind, seed=unseen.seed)
    return renewals


def _system(name: str, kind: str, *, meta: str = "", retriever: str = "") -> DialogueKey:
    return {"name": name, "kind": kind, "meta_knowledge": meta, "retriever": retriever}


def place_of_rows(system: Mapping[str, str]) -> str:
    """Return the folder name of a system's rows."""
    suffix = f"-{system['meta_knowledge']}" if system["kind"] == "in_context" else ""
    name = system["name"].replace(" (best retriever)", "").replace(", ", "-").replace(" ", "-")
    return f"{system['kind']}-{name}{suffix}"


def run_name(variant: str) -> str:
    """Return the name of a variant's MLflow run."""
    return f"dialogue-{variant}"
