"""Stage `train_dialogue@variant`: warm start (shared by the variants), KB index, joint training with index refresh."""

from prefect import flow

from flows.context import StageContext
from flows.dialogue_systems import GENERATOR, WARM_START, run_name
from flows.encoders import generator_artifact, model_content
from flows.gguf_sources import GENERATOR_KEY
from models.errors import FusedialError
from models.params.dialogue import VARIANTS, Variant
from tasks.artifact import Artifact, materialise_tree
from tasks.kb_index import kb_index
from tasks.model_logging import log_agent
from tasks.retriever import retriever_training, retriever_warm_start
from tasks.tracking import finish_stage


def train_dialogue_stage(ctx: StageContext, *, variant: Variant) -> None:
    """Write artifacts/<profile>/train_dialogue/<variant>/{warm_start,joint}."""
    if variant not in VARIANTS:
        raise FusedialError(f"`variant` must be one of {', '.join(VARIANTS)}, but is {variant!r}.")
    params = ctx.params
    warm = warm_started(ctx)
    run = ctx.run(run_name(variant), experiment="dialogue")
    generator, model = params.dialogue.generator, generator_artifact(ctx)
    content = "" if model is not None else model_content(ctx, generator.model, revision=generator.revision, key=GENERATOR_KEY)
    made = retriever_training(
        params.dialogue,
        params.index,
        ctx.input("prepare", "dialogues"),
        warm,
        variant=variant,
        setting=params.dialogues.setting,
        generator=content,
        model=model,
        runtime=params.runtime,
        run=run,
    )
    logged = variant_params(ctx, variant)
    run_id = finish_stage(run, output=made.sha256, params=logged, metrics={}, history=made.path / "history.jsonl")
    if params.tracking.log_models:
        data, answering = ctx.input("prepare", "dialogues"), params.dialogue_evaluation
        # The very step that `evaluate_dialogue` takes, which then finds it done.
        index = kb_index(params.index, data, made, folder=GENERATOR, runtime=params.runtime, run=run)
        log_agent(
            run_id,
            made.path,
            data.path / "kb.jsonl",
            index.path,
            settings={"num_beams": answering.num_beams, "batch_size": answering.batch_size},
            tracking=params.tracking,
            name=f"dialogue-{variant}",
        )
    materialise_tree({"warm_start": warm, "joint": made}, ctx.out("train_dialogue", variant))


def warm_started(ctx: StageContext) -> Artifact:
    """Return the warm-started retriever; the variants share it through the cache."""
    cfg = ctx.params.retriever
    run = ctx.run(WARM_START, experiment="dialogue")
    content = model_content(ctx, cfg.encoder, revision=cfg.revision, key="retriever.encoder")
    data = ctx.input("prepare", "dialogues")
    setting = ctx.params.dialogues.setting
    warm = retriever_warm_start(cfg, data, setting=setting, encoder=content, runtime=ctx.params.runtime, run=run)
    finish_stage(run, output=warm.sha256, params={"variant": WARM_START}, metrics={}, history=warm.path / "history.jsonl")
    return warm


def variant_params(ctx: StageContext, variant: str) -> dict[str, object]:
    """Return what tells variants apart on the compare page (all else stands on the parent run)."""
    cfg = ctx.params.dialogue
    joint = cfg.joint
    return {
        "variant": variant,
        "meta_knowledge": ", ".join(cfg.meta_knowledge.kinds) if variant != "none" else "none",
        "objective": joint.objective,
        "num_retrieved": cfg.num_retrieved,
        "beta": joint.beta,
        "gamma": joint.gamma if variant == "contrastive" else 0.0,
        "score_temperature": joint.score_temperature,
    }


@flow(name="train_dialogue")
def train_dialogue(variant: Variant = "prompt", profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Train the dialogue agent of a profile with one kind of meta knowledge."""
    train_dialogue_stage(StageContext.load(profile=profile, overrides=overrides or ()), variant=variant)
