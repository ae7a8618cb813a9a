"""Sizes of models and corpus for the estimates of `plan`, and counts of truncated texts; no model is loaded."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from flows.context import StageContext
from flows.encoders import scorer_folder
from flows.gguf_sources import gguf_header
from models.corpus.examples import count_examples, read_examples
from models.errors import FusedialError
from models.fusion.exposure import without_winners
from models.lm.gguf.find import names_gguf
from models.params.sources import PicoSpec, SourceSpec
from models.planning.footprint import CorpusSize, ModelSize

# The embedded world: rows of knowledge and of safety an entity gives; a row with its preference on disk; by style, the mean
# ground truth and the longest row.
_ROWS_PER_ENTITY, _PRETRAIN_BYTES = (15, 39), 390
_WORLD_TEXTS: Mapping[str, tuple[int, int]] = {"detailed": (45, 160), "explained": (170, 300)}
# Architectures with a plain MLP, and those without fused attention in transformers; all others are assumed to be like Llama.
_PLAIN_MLP, _EAGER = {"gpt2", "gpt_neox", "mpt", "bloom", "opt", "phi", "falcon"}, {"mpt", "bloom"}
_HEADS = ("num_attention_heads", "n_heads", "n_head")
_WIDTH, _LAYERS = ("hidden_size", "d_model", "n_embd", "dim"), ("num_hidden_layers", "n_layers", "n_layer")


def model_sizes(ctx: StageContext) -> tuple[dict[str, ModelSize], list[str]]:
    """Return the size of every source, and the names of those whose size is unknown here."""
    sizes: dict[str, ModelSize] = {}
    unknown: list[str] = []
    for spec in ctx.params.sources.models:
        hint = hinted_size(ctx, spec.name, dtype=spec.dtype)
        if spec.pico is not None:
            sizes[spec.name] = pico_size(spec.pico)
        elif names_gguf(spec, root=ctx.root) and (packed := gguf_size(spec, root=ctx.root)) is not None:
            sizes[spec.name] = packed
        elif (folder := ctx.root / spec.model).is_dir() and not names_gguf(spec, root=ctx.root):
            sizes[spec.name] = folder_size(folder, dtype=spec.dtype)
        elif hint is not None:
            sizes[spec.name] = hint
        else:
            unknown.append(spec.name)
    return sizes, unknown


def reward_sizes(ctx: StageContext) -> list[ModelSize]:
    """Return the sizes of the reward models and scorers' encoders that are known."""
    found = [folder_size(folder, dtype="float32") for s in ctx.params.teach.rewards.scorers if (folder := scorer_folder(ctx, s))]
    for spec in ctx.params.sources.reward_models:
        hint = hinted_size(ctx, spec.name, dtype=spec.dtype)
        if hint is not None:
            found.append(hint)
        elif (folder := ctx.root / spec.model).is_dir():
            found.append(folder_size(folder, dtype=spec.dtype))
    return found


def hinted_size(ctx: StageContext, name: str, *, dtype: Any) -> ModelSize | None:
    """Return the size that `planning.sizes` gives for a model, which is assumed to be like Llama."""
    for hint in ctx.params.planning.sizes:
        if hint.name == name:
            return ModelSize(hint.num_parameters, hint.vocab_size, hint.hidden_size, hint.num_layers, dtype=dtype, gated=True)
    return None


def pico_size(spec: PicoSpec) -> ModelSize:
    """Return the size of an embedded source: V·D for the tied embedding, 12·D² a layer."""
    width = spec.hidden_size
    parameters = spec.vocab_size * width + spec.num_layers * 12 * width * width
    return ModelSize(parameters, spec.vocab_size, width, spec.num_layers, **_layer_kind(spec.architecture, spec.num_heads))


def folder_size(folder: Path, *, dtype: Any) -> ModelSize:
    """Return the size of a model folder from its config and the headers of its safetensors files."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    counts = [prod(t["shape"]) for file in sorted(folder.glob("*.safetensors")) for t in _header(file).values()]
    kind = _layer_kind(config.get("model_type", ""), next((int(config[name]) for name in _HEADS if name in config), 0))
    return ModelSize(sum(counts), config["vocab_size"], _first(config, _WIDTH), _first(config, _LAYERS), dtype=dtype, **kind)


def gguf_size(spec: SourceSpec, *, root: Path) -> ModelSize | None:
    """Return the size of a source that is a GGUF file, from its header; None for a hub file that is not here.

    Raises:
        SourceError: As `gguf_header`.
    """
    header = gguf_header(spec, root=root)
    if header is None:
        return None
    kind = _layer_kind(header.architecture, header.number("attention.head_count"))
    width, layers = header.number("embedding_length"), header.number("block_count")
    return ModelSize(header.num_parameters, header.vocab_size, width, layers, dtype=spec.dtype, **kind)


def _layer_kind(architecture: str, num_heads: int) -> dict[str, Any]:
    """Return what a layer of an architecture keeps for the backward pass beyond the usual: see `ModelSize`."""
    return {"gated": architecture not in _PLAIN_MLP, "eager_heads": num_heads if architecture in _EAGER else 0}


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next(int(config[name]) for name in names if name in config)


def corpus_size(ctx: StageContext) -> CorpusSize | None:
    """Return the size of the corpus: from `prepare` if it has run, else from `planning.corpus`, else from the world's params."""
    place = ctx.out("prepare", "corpus")
    tokens = bytes_per_token(ctx)
    if (place / "stats.json").is_file():
        found = _measure(place, bytes_per_token=tokens, tokenizers=_tokenizers(ctx), extra_bytes=_extra_bytes(ctx))
        size = replace(found, num_prompts_only=_splits(place)["train"].get("prompts_only", 0))
        if size.response_bytes or not size.num_prompts_only:
            return size
        # Without ground truths, answers are assumed to be of the maximum length.
        return replace(size, response_bytes=ctx.params.teach.responses.max_new_tokens * size.bytes_per_token)
    hint = ctx.params.planning.corpus
    if hint is not None:
        share = min(1.0, (ctx.params.corpus.train_limit or hint.num_train) / hint.num_train)
        counts = {key: round(share * getattr(hint, key)) for key in ("num_train", "num_prompts_only")}
        return CorpusSize(**hint.model_dump() | counts, bytes_per_token=tokens)
    if ctx.params.corpus.kind == "embedded":
        world = ctx.params.corpus.world
        response, longest = _WORLD_TEXTS[world.truths.style]
        return CorpusSize(
            num_train=world.num_train + world.num_prompts_only,
            num_prompts_only=world.num_prompts_only,
            num_valid=world.num_valid,
            num_test=world.num_test,
            prompt_bytes=45,
            response_bytes=response,
            bytes_per_token=tokens,
            longest_bytes=longest,
            extra_bytes=_extra_bytes(ctx),
        )
    return None


def _extra_bytes(ctx: StageContext) -> int:
    """Return the bytes of the rows that embedded sources and reward models are trained on.

    Entities bound the rows of two of the three families.
    """
    if ctx.params.corpus.kind != "embedded":
        return 0
    world = ctx.params.corpus.world
    wanted = world.num_pretrain / 3
    rows = wanted + sum(min(wanted, each * world.num_entities) for each in _ROWS_PER_ENTITY)
    return int(rows * _PRETRAIN_BYTES)


def pretrain_tokens(ctx: StageContext) -> int:
    """Return the tokens an embedded source is trained on, on average; 0 where none is trained here."""
    steps = [s.pico.steps for s in ctx.params.sources.models if s.pico is not None]
    rows = ctx.params.sources.pico_training.batch_size * sum(steps) / len(steps) if steps else 0
    size = corpus_size(ctx)
    return int(rows * (size.prompt_tokens + size.response_tokens)) if size is not None else 0


def bytes_per_token(ctx: StageContext) -> float:
    """About 4 for English with 32k entries; a vocabulary of a few hundred gives 2 to 3."""
    sizes, _ = model_sizes(ctx)
    smallest = min((m.vocab_size for m in sizes.values()), default=32000)
    return 1.0 if smallest < 200 else 2.0 if smallest < 1500 else 3.0 if smallest < 10000 else 4.0


def _tokenizers(ctx: StageContext) -> list[Tokenizer]:
    """Return the tokenizers of the sources that lie in a folder here; that of a GGUF file once it is unpacked."""
    folders = [
        ctx.out("sources", "models", spec.name) if names_gguf(spec, root=ctx.root) else ctx.root / spec.model
        for spec in ctx.params.sources.models
        if spec.pico is None
    ]
    return [Tokenizer.from_file(str(file)) for folder in folders if (file := folder / "tokenizer.json").is_file()]


def _measure(
    place: Path, *, bytes_per_token: float, tokenizers: Sequence[Tokenizer], extra_bytes: int, sample: int = 1000
) -> CorpusSize:
    """Count the rows of the splits; lengths are those of the first training rows.

    Args:
        place: The corpus.
        bytes_per_token: Taken where there are no tokenizers.
        tokenizers: The rows are counted with each; the one that yields the most tokens counts.
        extra_bytes: See `CorpusSize`.
        sample: Rows whose lengths are measured.
    """
    counts: dict[str, int] = {}
    lengths: list[tuple[int, int]] = []
    prompts: list[str] = []
    texts: list[str] = []
    truths = 0
    for split in ("train", "valid", "test"):
        counts[split] = count_examples(place / f"{split}.jsonl") if (place / f"{split}.jsonl").is_file() else 0
    for example in islice(read_examples(place / "train.jsonl"), sample):
        prompt = sum(len(message.content.encode()) for message in example.messages)
        lengths.append((prompt, len((example.response or "").encode())))
        truths += example.response is not None
        prompts.append("\n".join(message.content for message in example.messages))
        texts.append(f"{prompts[-1]}\n{example.response or ''}")
    seen = max(len(lengths), 1)
    tokens = [_lengths(t, texts) for t in tokenizers] if texts else []
    most = max(tokens, key=sum, default=None)
    return CorpusSize(
        num_train=counts["train"],
        num_valid=counts["valid"],
        num_test=counts["test"],
        prompt_bytes=sum(prompt for prompt, _ in lengths) / seen,
        response_bytes=sum(response for _, response in lengths) / max(truths, 1),
        bytes_per_token=sum(map(sum, lengths)) / max(1, sum(most)) if most else bytes_per_token,
        longest_bytes=max((prompt + response for prompt, response in lengths), default=0),
        longest_row=max(map(max, tokens)) if tokens else None,
        longest_prompt=max(max(_lengths(t, prompts)) for t in tokenizers) if tokens else None,
        extra_bytes=extra_bytes,
    )


def _splits(place: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((place / "stats.json").read_text(encoding="utf-8"))["splits"]
    return found


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [len(encoded.ids) for encoded in tokenizer.encode_batch(texts, add_special_tokens=False)]


_SAMPLE = 1000


def cut_warnings(ctx: StageContext) -> list[str]:
    """Return a sentence about ground truths that their reader cut, and one about answers that `max_new_tokens` cuts.

    Both are counted where the stages have run; else answers are judged by the length of the ground truths.
    """
    return [line for line in (_truths(ctx), _answers(ctx)) if line]


def _truths(ctx: StageContext) -> str:
    place = ctx.out("prepare", "corpus")
    train = _splits(place)["train"] if (place / "stats.json").is_file() else {}
    cut = train.get("cut", 0)
    if not cut:
        return ""
    truths = train["rows"] - train.get("prompts_only", 0)
    return (
        f"{cut:,} of {truths:,} ground truths are cut by their reader (`corpus.sets[].response_chars`): "
        "they have no end label, so the target does not learn from them when to stop."
    )


def _answers(ctx: StageContext) -> str:
    methods, cfg = ctx.params.methods, ctx.params.fusion
    if len(without_winners(methods, cfg)) == len(methods):  # nobody learns from them
        return ""
    most = ctx.params.teach.responses.max_new_tokens
    cure = f"Raise `teach.responses.max_new_tokens` ({most}) where answers should be whole."
    try:
        made = list(ctx.inputs("teach", "responses").values())
    except FusedialError:  # not there yet
        made = []
    if made:
        cut, total = (sum(int(artifact.meta[key]) for artifact in made) for key in ("unfinished", "responses"))
        return f"{cut:,} of {total:,} answers were cut: they have no end label. {cure}" if cut else ""
    size, place = corpus_size(ctx), ctx.out("prepare", "corpus") / "train.jsonl"
    if size is None or not place.is_file():
        return ""
    lengths = [len(e.response.encode()) / size.bytes_per_token for e in islice(read_examples(place), _SAMPLE) if e.response]
    longer = sum(length > most for length in lengths)
    if not longer:
        return ""
    return (
        f"{longer:,} of {len(lengths):,} sampled ground truths have more than {most} tokens: answers of that length are cut, "
        f"and have no end label. {cure}"
    )
