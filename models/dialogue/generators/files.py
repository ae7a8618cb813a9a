"""The folder of a trained generator: a Hugging Face folder, and `generator.json` with its parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from models.errors import SourceError, reason
from models.files import replacing_folder
from models.params.dialogue import GeneratorParams

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
