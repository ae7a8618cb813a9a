"""Loading of the T5 of the trained generator (from scratch, a folder or the hub), and saving of trained ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from models.dialogue.generators.files import read_params, seeded, without_progress_bars
from models.dialogue.generators.seq2seq.from_scratch import add_marks, init_copy_heads
from models.errors import SourceError, reason
from models.lm.weights import refuse_adapter
from models.params.dialogue import GeneratorParams, PicoT5
from models.tokenization.loading import load_tokenizer

_log = logging.getLogger(__name__)


def pico_t5(spec: PicoT5, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> T5ForConditionalGeneration:
    """Make a T5 from scratch: relative attention, gated GELU, input and output embeddings tied, ready to copy."""
    config_type: Any = T5Config
    config = config_type(
        vocab_size=len(tokenizer),
        d_model=spec.hidden_size,
        d_kv=spec.hidden_size // spec.num_heads,
        d_ff=2 * spec.hidden_size,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        # The same function as `gated-gelu`, in one kernel instead of eight.
        feed_forward_proj="gated-gelu_pytorch_tanh",
        dropout_rate=spec.dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed):
        model = T5ForConditionalGeneration(config)
    init_copy_heads(model, generator=torch.Generator().manual_seed(seed))
    return model


def load_t5(
    model: str, *, revision: str | None, special_tokens: Sequence[str], root: Path, seed: int
) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Load a pre-trained T5 with its tokenizer, add marks and special tokens, and make room for them in the embeddings.

    Args:
        model: A folder (relative to `root`, or absolute), or a hub name.
        revision: Hub revision.
        special_tokens: Tokens of meta knowledge.
        root: The project root.
        seed: Of the new embeddings, drawn around the mean of the old ones.

    Raises:
        SourceError: It cannot be found or read, is not a T5, or lacks weights.
    """
    location = _locate(model, revision, root)
    refuse_adapter(location, revision=revision, where=_WHERE)
    tokenizer = load_tokenizer(location, revision=revision, source=_WHERE)
    loaded = read_t5(location, revision=revision)
    new = add_marks(tokenizer, special_tokens)
    if len(tokenizer) > loaded.shared.num_embeddings:
        _grow(loaded, len(tokenizer), seed=seed)
    _log.info("loaded %s: %d new tokens, %d embeddings", location, new, loaded.shared.num_embeddings)
    return loaded, tokenizer


def read_t5(location: str, *, revision: str | None = None) -> T5ForConditionalGeneration:
    """Load the weights of a T5 in float32.

    Raises:
        SourceError: Files are missing or broken, the model is not a T5, or its checkpoint lacks weights.
    """
    try:
        config = AutoConfig.from_pretrained(location, revision=revision)
    except (OSError, ValueError, KeyError, ImportError) as err:
        raise SourceError(f"{_WHERE}: the config of {location} cannot be loaded: {reason(err)} {_CURE}") from err
    if config.model_type != "t5":
        raise SourceError(f"{_WHERE} must be a T5, but {location} is `{config.model_type}`. Name a T5, or `pico`.")
    try:
        with without_progress_bars():
            auto: Any = T5ForConditionalGeneration
            model, info = auto.from_pretrained(location, revision=revision, dtype=torch.float32, output_loading_info=True)
    except Exception as err:  # transformers passes on whatever its loaders raise
        raise SourceError(f"{_WHERE}: the model in {location} cannot be loaded: {reason(err)} {_CURE}") from err
    missing = sorted(info["missing_keys"])
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise SourceError(f"{_WHERE}: the checkpoint in {location} lacks {len(missing)} weights of a T5: {shown}. {_CURE}")
    loaded: T5ForConditionalGeneration = model
    return loaded


_WHERE = "`dialogue.generator.model`"
_CURE = "Copy the model again, or name another one."


def _locate(model: str, revision: str | None, root: Path) -> str:
    folder = (root / Path(model).expanduser()).absolute()
    if folder.is_dir():
        return str(folder)
    if revision is None:
        raise SourceError(
            f"{_WHERE} names `{model}`, but there is no folder {folder}; as a hub name it needs `revision`, but that is null. "
            "Give the commit to use, a folder, or `pico`."
        )
    return model


def _grow(model: T5ForConditionalGeneration, rows: int, *, seed: int) -> None:
    # Resizing ties the head to the embeddings again where the config says so, as it does for every T5: T5 v1.1 and Flan-T5, whose
    # heads are their own, would lose them.
    model.config.tie_word_embeddings = model.lm_head.weight is model.shared.weight
    with seeded(seed), without_progress_bars():
        model.resize_token_embeddings(rows)


def read_generator(folder: Path) -> tuple[GeneratorParams, T5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Read what `write_generator` wrote.

    Raises:
        SourceError: A file is missing or broken; names the folder and the reason.
    """
    cfg = read_params(folder)
    return cfg, read_t5(str(folder)), load_tokenizer(str(folder), source=str(folder))
