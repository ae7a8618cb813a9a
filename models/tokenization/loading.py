"""Loading of fast tokenizers, and the digest that tells whether two of them behave the same."""

import hashlib
import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from models.errors import SourceError
from models.tokenization.backends import backend_spec


def load_tokenizer(
    location: str, *, revision: str | None = None, trust_remote_code: bool = False, source: str
) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a source model.

    Args:
        location: Folder or hub id.
        revision: Hub revision.
        trust_remote_code: Whether the repository's own tokenizer class may run.
        source: Name of the source model, for messages.

    Raises:
        SourceError: There is no such folder, its files cannot be read, or only a slow tokenizer exists.
    """
    if location.startswith((".", "/", "~")) and not Path(location).is_dir():
        raise SourceError(f"The tokenizer of source `{source}` must be in a folder, but `{location}` is none.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, revision=revision, trust_remote_code=trust_remote_code, use_fast=True
        )
    except Exception as error:  # transformers raises whatever its many loaders raise
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(
            f"The tokenizer of source `{source}` cannot be loaded from `{location}`: {reason} "
            "The folder must hold tokenizer.json and tokenizer_config.json."
        ) from error
    if not tokenizer.is_fast:
        raise SourceError(
            f"The tokenizer of source `{source}` in `{location}` must be a fast one (tokenizer.json), "
            f"but is {type(tokenizer).__name__}. Convert it with `save_pretrained` of its fast class."
        )
    return tokenizer


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a sha256 (hex) over what decides the tokens of a text: model, normalisation, splitting, added and end tokens.

    Equal digests mean equal tokens for every prompt and response. Padding and truncation do not count.
    """
    behaviour = {"spec": backend_spec(tokenizer), "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    text = json.dumps(behaviour, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
