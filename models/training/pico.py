"""The embedded sources: small language models trained here, each on its own mix of the world's families."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)

from models.data.corpus import read_examples
from models.errors import ParamsError, Problem, SourceError
from models.metrics_sink import MetricsSink
from models.params.runtime import Runtime
from models.params.sources import PicoSpec, PicoTraining, SourcesParams, SourceSpec
from models.schema import Example
from models.tokenization.chat import render_prompt, resolve_template
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer
from models.training.causal_lm import TrainingRow, TrainingSummary, train_causal_lm
from models.training.pico_tokenizer import CONTEXT_LENGTH, train_tokenizer


def train_pico_sources(
    cfg: SourcesParams, pretrain: Path, *, runtime: Runtime, out: Path, sink: MetricsSink
) -> dict[str, TrainingSummary]:
    """Train every embedded source of `cfg`, one after another, into `out/<name>` (Hugging Face folders, safetensors).

    The tokenizers land in `out/tokenizers/<letter>`. Independent sources may instead be trained in processes of their own:
    `train_pico_tokenizers` once, then `train_pico_source` for each.
    """
    tokenizers = train_pico_tokenizers(cfg, pretrain, out=out / "tokenizers")
    return {
        spec.name: train_pico_source(
            spec,
            cfg.pico_training,
            pretrain,
            tokenizer_dir=tokenizers[spec.pico.tokenizer],
            runtime=runtime,
            out=out / spec.name,
            sink=sink,
        )
        for spec in cfg.models
        if spec.pico is not None
    }


def train_pico_tokenizers(cfg: SourcesParams, pretrain: Path, *, out: Path) -> dict[str, Path]:
    """Train one tokenizer for every letter used by the embedded sources; return letter → folder.

    Raises:
        ParamsError: Sources share a letter but not the vocabulary size.
    """
    sizes: dict[str, int] = {}
    for number, spec in enumerate(cfg.models):
        if spec.pico is None:
            continue
        size = sizes.setdefault(spec.pico.tokenizer, spec.pico.vocab_size)
        if size != spec.pico.vocab_size:
            rule = f"must be {size} as in the other sources with tokenizer `{spec.pico.tokenizer}`"
            problem = Problem(f"`sources.models[{number}].pico.vocab_size`", rule, str(spec.pico.vocab_size))
            raise ParamsError("The embedded sources do not fit together", [problem])
    for letter, size in sizes.items():
        train_tokenizer(letter, pretrain, vocab_size=size, out=out / letter)
    return {letter: out / letter for letter in sizes}


def train_pico_source(
    spec: SourceSpec,
    training: PicoTraining,
    pretrain_dir: Path,
    *,
    tokenizer_dir: Path,
    runtime: Runtime,
    out: Path,
    sink: MetricsSink,
) -> TrainingSummary:
    """Train one embedded source on its mix of families and save model and tokenizer in `out`.

    Args:
        spec: The source; its `pico` recipe decides architecture, size, mix and steps.
        training: Optimiser settings.
        pretrain_dir: Folder with one examples file per family.
        tokenizer_dir: Tokenizer folder of `train_tokenizer`.
        runtime: Device and threads.
        out: Folder to write.
        sink: Receives the loss and the progress.

    Raises:
        SourceError: The source has no recipe, or its mix names a family without rows.
    """
    if spec.pico is None:
        raise SourceError(f"Source `{spec.name}` must be `embedded` to be trained here, but is {spec.model}.")
    codec = TokenCodec(load_tokenizer(str(tokenizer_dir), source=spec.name), source=spec.name)
    template = resolve_template(spec.chat_template, codec.tokenizer, source=spec.name)
    families = {f: encode_rows(_family_rows(pretrain_dir, f, spec.name), codec, template) for f, w in spec.pico.mix.items() if w > 0}
    rows = [row for family in families.values() for row in family]
    order = mixed_order(
        {f: len(r) for f, r in families.items()}, spec.pico.mix, shape=(spec.pico.steps, training.batch_size), seed=spec.pico.seed
    )
    with limited_threads(runtime.threads):
        model = build_pico_model(spec.pico, codec)
        summary = train_causal_lm(model, rows, order=order, training=training, device=_device(runtime.device), sink=sink)
    model.to("cpu").save_pretrained(out)
    codec.tokenizer.save_pretrained(out)
    return summary


def build_pico_model(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    """Make an untrained model of the recipe's size; the same seed gives the same weights. Leaves the global seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return _ARCHITECTURES[spec.architecture](spec, codec)


def encode_rows(examples: Sequence[Example], codec: TokenCodec, template: str) -> list[TrainingRow]:
    """Tokenise prompt (through the template) and response apart, as they are scored later, and add the end token.

    Rows longer than the context keep their beginning.
    """
    prompts = codec.encode_prompts(
        [render_prompt(template, e.messages, bos_token=codec.bos_token, eos_token=codec.eos_token) for e in examples]
    )
    responses = codec.encode_responses([e.response for e in examples])
    end = np.array([codec.eos_id], dtype=np.int32)
    return [
        TrainingRow(np.concatenate([prompt, response.ids, end])[:CONTEXT_LENGTH], len(prompt))
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def mixed_order(
    counts: Mapping[str, int], mix: Mapping[str, float], *, shape: tuple[int, int], seed: int
) -> npt.NDArray[np.int64]:
    """Draw row indices, [steps, batch], families by weight; every family's rows are gone through in turn, reshuffled each pass.

    Rows are numbered family after family in the order of `counts`.
    """
    rng = random.Random(f"pico/{seed}")
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False))
    streams = {family: _passes(starts[family], count, rng) for family, count in counts.items()}
    families, weights = list(counts), [mix[family] for family in counts]
    drawn = rng.choices(families, weights=weights, k=shape[0] * shape[1])
    return np.array([next(streams[family]) for family in drawn], dtype=np.int64).reshape(shape)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch use `threads` threads in this process (0 = as it is), and put the number back."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _passes(start: int, count: int, rng: random.Random) -> Iterator[int]:
    rows = list(range(start, start + count))
    while True:
        rng.shuffle(rows)
        yield from rows


def _family_rows(folder: Path, family: str, source: str) -> list[Example]:
    path = folder / f"{family}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.jsonl"))) or "none"
        raise SourceError(f"`pico.mix` of source `{source}` must name families of {folder} ({known}), but has {family}.")
    return list(read_examples(path))


def _tokens(codec: TokenCodec) -> dict[str, int | None]:
    return {"bos_token_id": codec.bos_id, "eos_token_id": codec.eos_id, "pad_token_id": codec.pad_id}


def _llama(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_gated(spec, codec)))


def _mistral(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**_gated(spec, codec), sliding_window=None))


def _gated(spec: PicoSpec, codec: TokenCodec) -> dict[str, object]:
    return {
        "vocab_size": codec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": 8 * spec.hidden_size // 3 // 16 * 16,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_heads,
        "max_position_embeddings": CONTEXT_LENGTH,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        **_tokens(codec),
    }


def _gpt_neox(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=codec.vocab_size,
            hidden_size=spec.hidden_size,
            intermediate_size=4 * spec.hidden_size,
            num_hidden_layers=spec.num_layers,
            num_attention_heads=spec.num_heads,
            max_position_embeddings=CONTEXT_LENGTH,
            initializer_range=0.05,
            tie_word_embeddings=True,
            **_tokens(codec),
        )
    )


def _mpt(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    return MptForCausalLM(
        MptConfig(
            vocab_size=codec.vocab_size,
            d_model=spec.hidden_size,
            n_heads=spec.num_heads,
            n_layers=spec.num_layers,
            max_seq_len=CONTEXT_LENGTH,
            initializer_range=0.05,
            tie_word_embeddings=True,
            use_cache=True,
            **_tokens(codec),
        )
    )


_ARCHITECTURES = {"llama": _llama, "mistral": _mistral, "gpt_neox": _gpt_neox, "mpt": _mpt}
