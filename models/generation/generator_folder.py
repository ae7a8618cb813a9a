"""The folder of a trained generator: Hugging Face files and `generator.json`; safetensors and JSON only."""

from pathlib import Path

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from models.errors import SourceError
from models.files import replacing_folder
from models.generation.reasons import reason
from models.generation.t5_loading import quiet, read_t5
from models.params.dialogue import GeneratorParams
from models.tokenization.loading import load_tokenizer

GENERATOR = "generator.json"


def write_generator(
    folder: Path, *, cfg: GeneratorParams, model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the files beside `folder`, force them to disk, and let them take its place."""
    with replacing_folder(folder) as temporary:
        with quiet():
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        (temporary / GENERATOR).write_text(cfg.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_generator(folder: Path) -> tuple[GeneratorParams, T5ForConditionalGeneration, PreTrainedTokenizerBase]:
    """Read what `write_generator` wrote.

    Raises:
        SourceError: A file is missing or broken; names the folder and the reason.
    """
    try:
        cfg = GeneratorParams.model_validate_json((folder / GENERATOR).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as err:
        raise SourceError(
            f"{folder} must hold a trained generator with {GENERATOR}, but it cannot be read: {reason(err)} Train it again."
        ) from err
    return cfg, read_t5(str(folder)), load_tokenizer(str(folder), source=str(folder))
