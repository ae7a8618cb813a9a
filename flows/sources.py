"""Stage `sources`: every model to be fused, then the reward models, resolved or trained."""

import logging
from collections.abc import Mapping
from pathlib import Path

from prefect import flow

from flows.context import StageContext
from flows.gguf_sources import gguf_digest, gguf_dtype, gguf_header
from flows.made_sources import making_command
from flows.parallel import Call, gather
from models.errors import SourceError
from models.lm.gguf.find import names_gguf
from models.params.sources import RewardModelSpec, SourceSpec
from tasks.artifact import Artifact, materialise_tree, tree_digest
from tasks.sources import (
    GgufPlace,
    gguf_model,
    gguf_source,
    pico_answers,
    pico_reward_model,
    pico_source,
    pico_tokenizer,
    pretraining_rows,
    resolve_reward_model,
    resolve_source,
)
from tasks.tracking import finish_stage

_log = logging.getLogger(__name__)


def sources_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/sources/{models,reward_models}/<name>."""
    cfg = ctx.params.sources
    data = ctx.input("prepare", "corpus")
    specs = [s.pico for s in cfg.models if s.pico]
    data = pretraining_rows(data) if specs else data
    sizes = {s.tokenizer: s.vocab_size for s in specs}
    tokenizers = {letter: pico_tokenizer(letter, size, data) for letter, size in sorted(sizes.items())}
    converted = _converted(ctx)
    made = gather([_source_call(ctx, s, data, tokenizers, converted) for s in cfg.models], runtime=ctx.params.runtime)
    parts = {f"models/{s.name}": artifact for s, artifact in zip(cfg.models, made, strict=True)}
    answers = _answers(ctx, parts, data)
    judges = gather([_reward_call(ctx, r, data, tokenizers, answers) for r in cfg.reward_models], runtime=ctx.params.runtime)
    parts |= {f"reward_models/{r.name}": artifact for r, artifact in zip(cfg.reward_models, judges, strict=True)}
    materialise_tree(parts, ctx.out("sources"))
    for note in (note for artifact in made for note in artifact.meta.get("notes", ())):
        _log.warning("%s", note)
    for name, artifact in parts.items():
        kind, _, short = name.partition("/")
        label = f"source-{short}" if kind == "models" else f"reward-{short}"
        finish_stage(ctx.run(label), output=artifact.sha256, params={"method": short}, metrics={}, history=None)


def _converted(ctx: StageContext) -> dict[str, Artifact]:
    """Unpack the GGUF files, one after another, as each needs the memory of a whole model; return the model folders by source."""
    found: dict[str, Artifact] = {}
    for spec in ctx.params.sources.models:
        if names_gguf(spec, root=ctx.root) and (header := gguf_header(spec, root=ctx.root, download=True)) is not None:
            content = gguf_digest(spec, header.file)
            found[spec.name] = gguf_model(content, gguf_dtype(spec), place=GgufPlace(header.file))
    return found


def _source_call(
    ctx: StageContext, spec: SourceSpec, data: Artifact, tokenizers: dict[str, Artifact], converted: Mapping[str, Artifact]
) -> Call:
    if spec.name in converted:
        return gguf_source, {"spec": spec, "converted": converted[spec.name]}
    if spec.pico is None:
        content = _content(ctx, spec.model, f"`sources.models[{spec.name}].model`")
        return resolve_source, {"spec": spec, "content": content, "place": spec.model}
    return pico_source, {
        "spec": spec,
        "training": ctx.params.sources.pico_training,
        "data": data,
        "tokenizer": tokenizers[spec.pico.tokenizer],
        "world": ctx.params.corpus.world if spec.pico.has_own_rows else None,
        "runtime": ctx.params.runtime,
        "run": ctx.run(f"source-{spec.name}"),
    }


def _answers(ctx: StageContext, parts: Mapping[str, Artifact], data: Artifact) -> tuple[Artifact, ...]:
    """Let the embedded sources answer for the embedded reward models, where there are any."""
    cfg = ctx.params.sources
    if not cfg.preferences.num_prompts or not any(r.model == "embedded" for r in cfg.reward_models):
        return ()
    calls: list[Call] = [
        (
            pico_answers,
            {
                "cfg": cfg.preferences,
                "data": data,
                "source": parts[f"models/{spec.name}"],
                "runtime": ctx.params.runtime,
                "run": ctx.run(f"source-{spec.name}"),
            },
        )
        for spec in cfg.models
        if spec.pico is not None
    ]
    return tuple(gather(calls, runtime=ctx.params.runtime))


def _reward_call(
    ctx: StageContext, spec: RewardModelSpec, data: Artifact, tokenizers: dict[str, Artifact], answers: tuple[Artifact, ...]
) -> Call:
    if spec.model != "embedded":
        content = _content(ctx, spec.model, f"`sources.reward_models[{spec.name}].model`")
        return resolve_reward_model, {"spec": spec, "content": content, "place": spec.model}
    if not tokenizers:
        raise SourceError(
            f"reward model `{spec.name}` is `embedded`, but no source is: there is no world to train it on. "
            "Name a folder or hub model, or use a scorer of kind `reference`."
        )
    return pico_reward_model, {
        "spec": spec,
        "training": ctx.params.sources.pico_training,
        "preferences": ctx.params.sources.preferences,
        "answers": answers,
        "data": data,
        "tokenizer": tokenizers[min(tokenizers)],
        "runtime": ctx.params.runtime,
        "run": ctx.run(f"reward-{spec.name}"),
    }


def _content(ctx: StageContext, model: str, where: str) -> str:
    """Return the digest of a local folder, or "" for a hub name."""
    folder = ctx.root / Path(model).expanduser()
    parts = Path(model).parts
    made_by = parts[1] if len(parts) > 2 and parts[0] == "artifacts" else ""
    if made_by == ctx.params.profile:
        raise SourceError(
            f"{where} must not be an output of the profile that reads it, but is {model}: a model cannot be a source of itself. "
            "Take the source from another profile, such as the one of the first round."
        )
    if (command := making_command(model)) is not None and not folder.is_dir():
        raise SourceError(
            f"{where} must be an existing folder, but is {model}, an output of the profile `{made_by}`. "
            f"Run that first: `{command}`"
        )
    if folder.is_dir():
        return tree_digest(folder)
    # Said here, before the libraries that would say it are loaded.
    if model.startswith((".", "/", "~", "data/")) or model.count("/") != 1:
        raise SourceError(
            f"{where} must be an existing folder, relative to the project root, but is {model}. Profiles read from "
            "data/external/, which you fill: data/README.md says where each model comes from."
        )
    return ""


@flow(name="sources")
def sources(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Resolve or train the sources of a profile."""
    sources_stage(StageContext.load(profile=profile, overrides=overrides or ()))
