"""Sizes of models and data of the dialogue half for the estimates of `plan`, read without loading anything."""

import json
from collections.abc import Mapping
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, Literal

from flows.context import StageContext
from flows.encoders import package_folder
from flows.gguf_sources import generator_spec
from flows.plan.fusion_sizes import folder_size, gguf_size, hinted_size, model_sizes, pico_size
from models.dialogue.data.records import KB, STATS, Entity
from models.dialogue.retrieval.entity_text import entity_text
from models.errors import ParamsError
from models.lm.gguf.find import names_gguf
from models.params.dialogue import GeneratorParams, PicoT5
from models.params.retriever import PicoEncoder
from models.params.sources import PicoSpec
from models.planning.dialogue_estimate import estimate_dialogue_stages
from models.planning.dialogue_footprint import DialogueModels, DialogueSize
from models.planning.footprint import ModelSize
from models.planning.stage_estimate import StageEstimate
from models.records import from_row

ENCODER, GENERATOR, DIALOGUES = "the encoder", "the generator", "the dialogues"
# T5's tokens a word on the published data sets; names, phones and postcodes of entities are split into more tokens.
_PER_WORD, _PER_ENTITY_WORD = 1.3, 1.8
# Of the embedded town, with the tokenizers trained on it.
_TOWN_TURNS, _TOWN_TOKENS = 5.65, {"context_tokens": 70.0, "entity_tokens": 36.0, "response_tokens": 12.0}
# Turns of a dialogue in the published data sets.
_TURNS = 5
_WIDTH, _LAYERS = ("hidden_size", "d_model"), ("num_hidden_layers", "num_layers")
_SAMPLE = 1000


def dialogue_estimates(ctx: StageContext) -> tuple[StageEstimate, ...] | list[str]:
    """Return the estimates of the dialogue half; or, as a list, what they need but cannot be read here.

    In-context generators of unknown size are left out (`uncounted` names them).
    """
    params = ctx.params
    encoder, generator, size = encoder_size(ctx), generator_size(ctx), dialogue_size(ctx)
    if encoder is None or generator is None or size is None:
        missing = {ENCODER: encoder, GENERATOR: generator, DIALOGUES: size}
        return [name for name, found in missing.items() if found is None]
    in_context = {name: found for name, found in _in_context_sizes(ctx).items() if found is not None}
    num_encoders = 1 + params.retriever.untied
    return estimate_dialogue_stages(
        DialogueModels(encoder=encoder, generator=generator, num_encoders=num_encoders, in_context=in_context),
        size,
        dialogues=params.dialogues,
        retriever=params.retriever,
        dialogue=params.dialogue,
        evaluation=params.dialogue_evaluation,
        variants=params.variants,
    )


def uncounted(ctx: StageContext) -> list[str]:
    """Return the in-context generators that run here but whose size is unknown."""
    return [name for name, size in _in_context_sizes(ctx).items() if size is None]


def encoder_size(ctx: StageContext) -> ModelSize | None:
    """Return the size of the retriever's encoder, or None where it is unknown here."""
    cfg = ctx.params.retriever
    if cfg.encoder == "pico":
        return _pico_encoder(cfg.pico, positions=max(cfg.max_context_tokens, cfg.max_entity_tokens))
    return _named_size(ctx, cfg.encoder, hint="encoder", key="retriever.encoder")


def generator_size(ctx: StageContext) -> ModelSize | None:
    """Return the size of the trained generator, or None where it is unknown here."""
    cfg = ctx.params.dialogue.generator
    if cfg.kind == "causal":
        return _causal_size(ctx, cfg)
    if cfg.model == "pico":
        return _pico_t5(cfg.pico)
    return _named_size(ctx, cfg.model, hint="generator", key="dialogue.generator.model")


def _causal_size(ctx: StageContext, cfg: GeneratorParams) -> ModelSize | None:
    if cfg.model == "pico":
        sizes = cfg.pico
        return pico_size(
            PicoSpec(
                vocab_size=sizes.vocab_size,
                hidden_size=sizes.hidden_size,
                num_layers=sizes.num_layers,
                num_heads=sizes.num_heads,
            )
        )
    spec = generator_spec(cfg)
    if spec is None:
        return _made_size(ctx, cfg.model)
    if names_gguf(spec, root=ctx.root):
        return gguf_size(spec, root=ctx.root)
    folder = ctx.root / cfg.model
    return folder_size(folder, dtype="float32") if folder.is_dir() else hinted_size(ctx, "generator", dtype="float32")


def _made_size(ctx: StageContext, model: str) -> ModelSize | None:
    """Return the size of `fused:<method>`, `fused:<method>/<target>` or `source:<name>`."""
    known, _ = model_sizes(ctx)
    kind, _, name = model.partition(":")
    return known.get((name.partition("/")[2] or ctx.params.fusion.targets[0]) if kind == "fused" else name)


def _pico_encoder(sizes: PicoEncoder, *, positions: int) -> ModelSize:
    width = sizes.hidden_size
    parameters = (sizes.vocab_size + positions) * width + sizes.num_layers * 12 * width * width
    return ModelSize(parameters, sizes.vocab_size, width, sizes.num_layers)


def _pico_t5(sizes: PicoT5) -> ModelSize:
    """Encoder layers have 10·D², decoder layers 14·D² (gated feed-forward of width 2·D)."""
    width = sizes.hidden_size
    parameters = sizes.vocab_size * width + sizes.num_layers * 24 * width * width
    return ModelSize(parameters, sizes.vocab_size, width, sizes.num_layers)


def _named_size(ctx: StageContext, model: str, *, hint: Literal["encoder", "generator"], key: str) -> ModelSize | None:
    """Return the size of a folder, or the one that `planning.sizes` gives under the name `encoder` or `generator`."""
    try:
        folder = package_folder(model, key=key) if model.startswith("package:") else ctx.root / model
    except ParamsError:  # a package that is not installed
        return hinted_size(ctx, hint, dtype="float32")
    return _folder_size(folder) or hinted_size(ctx, hint, dtype="float32")


def _folder_size(folder: Path) -> ModelSize | None:
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    total = 0
    for file in files:
        with safe_open(file, framework="numpy") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())
    return ModelSize(total, config["vocab_size"], _first(config, _WIDTH), _first(config, _LAYERS))


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next(int(config[name]) for name in names if name in config)


def _in_context_sizes(ctx: StageContext) -> dict[str, ModelSize | None]:
    """Return the sizes of the in-context generators that run here, by name; those behind an endpoint are absent."""
    found: dict[str, ModelSize | None] = {}
    for spec in ctx.params.dialogue_evaluation.in_context:
        if spec.kind != "causal":
            continue
        named = spec.model.startswith(("fused:", "source:"))
        found[spec.name] = _made_size(ctx, spec.model) if named else _folder_size(ctx.root / spec.model)
    return found


def dialogue_size(ctx: StageContext) -> DialogueSize | None:
    """Return the size of the dialogues: from `prepare` if it has run, else from `planning.dialogues`, else from the town's."""
    cfg = ctx.params.dialogues
    place = ctx.out("prepare", "dialogues")
    if (place / STATS).is_file():
        return _measured(place)
    hint = next((h for h in ctx.params.planning.dialogues if h.kind == cfg.kind), None)
    if hint is not None:
        turns = {name: getattr(hint, name) for name in ("num_train", "num_valid", "num_test")}
        tokens = {name: getattr(hint, name) for name in _TOWN_TOKENS}
        num_entities = hint.num_entities
    elif cfg.kind == "embedded":
        part = _TOWN_TURNS * cfg.town.num_dialogues / 10
        turns, tokens = {"num_train": int(8 * part), "num_valid": int(part), "num_test": int(part)}, _TOWN_TOKENS
        num_entities = cfg.town.num_entities
    else:
        return None
    if cfg.limit is not None:
        turns = {name: min(number, _TURNS * cfg.limit) for name, number in turns.items()}
    return DialogueSize(**turns, num_entities=num_entities + cfg.renew.distractors, **tokens)


def _measured(place: Path) -> DialogueSize:
    """Read what `prepare` counted; of entities, the first thousand are measured."""
    stats = json.loads((place / STATS).read_text(encoding="utf-8"))
    splits = stats["splits"]
    with (place / KB).open(encoding="utf-8") as file:
        words = [len(entity_text(from_row(Entity, json.loads(line))).split()) for line in islice(file, _SAMPLE)]
    means = splits["train"]["mean_per_turn"]
    return DialogueSize(
        num_train=splits["train"]["turns"],
        num_valid=splits["valid"]["turns"],
        num_test=splits["test"]["turns"],
        num_entities=stats["kb"]["entities"],
        context_tokens=_PER_WORD * means["context_words"],
        entity_tokens=_PER_ENTITY_WORD * sum(words) / max(len(words), 1),
        response_tokens=_PER_WORD * means["response_words"],
    )
