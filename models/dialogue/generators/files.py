"""The folder of a trained generator: a Hugging Face folder, and `generator.json` with its parameters."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from models.errors import SourceError, reason
from models.files import replacing_folder
from models.params.dialogue import GeneratorParams
from models.tokenization.loading import tokenizer_digest

GENERATOR = "generator.json"
# Initialisers draw from torch's global generator, which threads share.
_DRAWING = Lock()


def write_generator(
    folder: Path,
    *,
    cfg: GeneratorParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Write the files to a temporary folder, sync them to disk, and let it replace `folder`.

    Args:
        folder: Where.
        cfg: Its parameters.
        model: Gives config and weights.
        tokenizer: Its tokenizer.
        state: The weights, where they are not those of `model`.
    """
    with replacing_folder(folder) as temporary:
        with without_progress_bars():
            model.save_pretrained(temporary, state_dict=state)
            tokenizer.save_pretrained(temporary)
        (temporary / GENERATOR).write_text(cfg.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_params(folder: Path) -> GeneratorParams:
    """Read the parameters of a trained generator.

    Raises:
        SourceError: They are missing or broken; names the folder and the reason.
    """
    try:
        return GeneratorParams.model_validate_json((folder / GENERATOR).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as err:
        raise SourceError(
            f"{folder} must hold a trained generator with {GENERATOR}, but it cannot be read: {reason(err)} Train it again."
        ) from err


# They say where a model was read from and by what, not what it is.
_NOT_IN_DIGEST = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "tie_word_embeddings"}
_MADE_BY = {"kind", "model", "revision", "pico", "gguf", "lora", "chat_template", "gradient_checkpointing"}


def generator_digest(
    cfg: GeneratorParams, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Tensor]
) -> str:
    """Return the sha256 over what decides the answers: parameters, architecture, tokenizer, weights."""
    head = {
        "cfg": cfg.model_dump(mode="json", exclude=_MADE_BY),
        "model": {k: v for k, v in model.config.to_dict().items() if k not in _NOT_IN_DIGEST},
        "tokenizer": tokenizer_digest(tokenizer),
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, default=str).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        stored: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        digest.update(stored)
    return digest.hexdigest()


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let initialisers draw from a seed of their own, and torch's random state stay as it was."""
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
