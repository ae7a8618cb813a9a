"""Loading of the causal LM of the trained generator: from scratch, a folder, or the hub; and of trained ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from models.dialogue.generators.files import without_progress_bars
from models.errors import SourceError
from models.lm.config import CONFIG, ConfigFile, is_quantised
from models.lm.loading import load_codec, load_model
from models.lm.pico.models import CONTEXT_LENGTH, build_pico_model, byte_level_tokenizer
from models.lm.resolve import resolve_source
from models.params.dialogue import GeneratorParams
from models.params.sources import PicoSpec, SourceSpec
from models.tokenization.chat import resolve_template
from models.tokenization.codec import TokenCodec

WHERE = "`dialogue.generator.model`"
_PICO_TEMPLATE = "plain"


@dataclass(frozen=True, slots=True)
class CausalParts:
    """A causal LM and how it is spoken to.

    Attributes:
        model: On the CPU, in evaluation mode.
        codec: Its tokenizer.
        template: Its chat template.
        context_length: Longest input in tokens.
        instructed: Whether its prompts have instructions: one from scratch knows no language to read them in.
    """

    model: PreTrainedModel
    codec: TokenCodec
    template: str
    context_length: int
    instructed: bool


def pico_causal(cfg: GeneratorParams, texts: Iterable[str], *, seed: int) -> CausalParts:
    """Make a small Llama from scratch, with a tokenizer trained on texts."""
    sizes = cfg.pico
    tokenizer = byte_level_tokenizer(texts, vocab_size=sizes.vocab_size, digits=1)
    template = resolve_template(cfg.chat_template or _PICO_TEMPLATE, tokenizer, source=WHERE)
    codec = TokenCodec(tokenizer, source=WHERE, chat_template=template)
    spec = PicoSpec(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        seed=seed,
    )
    return CausalParts(build_pico_model(spec, codec).eval(), codec, template, CONTEXT_LENGTH, instructed=False)


def load_causal(cfg: GeneratorParams, *, root: Path, folder: Path | None) -> CausalParts:
    """Load a pre-trained causal LM in float32 (with adapters, in the dtype that they ask for).

    Args:
        cfg: Names it.
        root: What relative folders start at.
        folder: Where it lies, if that is not what `cfg.model` says.

    Raises:
        SourceError: It cannot be found or read, is not a causal LM, is quantised, or has no chat template.
    """
    named = (root / Path(cfg.model).expanduser()).absolute()
    place = str(folder or (named if named.is_dir() else cfg.model))
    revision = cfg.revision if folder is None else None
    if is_quantised(ConfigFile(place, CONFIG, revision=revision, where=WHERE)):
        raise SourceError(
            f"{WHERE} must have weights that can be trained, but has quantised ones ({place}). Name the model's own weights."
        )
    spec = SourceSpec(name="generator", model=place, revision=revision, chat_template=cfg.chat_template)
    dtype = "float32" if cfg.lora is None else cfg.lora.base_dtype
    return _read(spec, root=root, dtype=dtype, instructed=True)


def read_causal(cfg: GeneratorParams, folder: Path) -> CausalParts:
    """Read a trained one from the folder that it was written to.

    Raises:
        SourceError: A file is missing or broken.
    """
    spec = SourceSpec(name="generator", model=str(folder.absolute()))
    return _read(spec, root=folder, dtype="float32", instructed=cfg.model != "pico")


def _read(spec: SourceSpec, *, root: Path, dtype: str, instructed: bool) -> CausalParts:
    with without_progress_bars():
        source = resolve_source(spec, root=root, where=WHERE)
        model = load_model(source, device="cpu", dtype=getattr(torch, dtype))
    return CausalParts(model, load_codec(source), source.chat_template, source.context_length, instructed)
