"""The trained target as a Hugging Face folder that is itself a source."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from models.lm.lora import cast_state
from models.lm.source_file import write_source
from models.lm.weights import folder_digest
from models.schema import ResolvedSource


def export_target(
    model: PreTrainedModel,
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    target: ResolvedSource,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
) -> ResolvedSource:
    """Write weights (safetensors, in the target's dtype), config, tokenizer and `source.json` into an empty folder.

    The bytes depend on the weights alone.

    Args:
        model: Of the right architecture; gives the config, its weights are not read.
        state: The weights to write.
        folder: Where.
        target: What was trained; template, context length and dtype are taken over.
        name: Name of the result as a source.
        tokenizer: The target's.

    Returns:
        The result as a source.
    """
    dtype: torch.dtype = getattr(torch, target.dtype)
    with no_progress_bars():
        model.save_pretrained(folder, state_dict=cast_state(state, dtype))
    _set(folder / "config.json", "dtype", target.dtype)
    if target.end_ids:  # it was trained to end its turns with the first of them
        _set(folder / "generation_config.json", "eos_token_id", list(target.end_ids))
    # A template given as a preset is not in the target's own files; the loaded result needs it.
    own, tokenizer.chat_template = tokenizer.chat_template, target.chat_template
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = own
    digest = folder_digest(folder, where=f"the result `{name}`")
    result = replace(target, name=name, location=str(folder.absolute()), revision=None, digest=digest)
    write_source(folder, result)
    return result


def _set(file: Path, key: str, value: object) -> None:
    row = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(row | {key: value}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' own bars (reading and writing weights) off the terminal."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
