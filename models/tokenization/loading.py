"""Fast tokenizers: loading, their Rust backends for prompts and responses, and a digest that identifies their behaviour."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from models.errors import SourceError

Spec = dict[str, Any]
_PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def backend_spec(tokenizer: PreTrainedTokenizerBase) -> Spec:
    """Return the parts of the backend's JSON that determine the tokens of a text.

    Truncation and padding are left out, because transformers changes them as a side effect of calls; the post-processor too,
    because it only adds special tokens, which the chat templates write themselves.
    """
    spec: Spec = json.loads(tokenizer.backend_tokenizer.to_str())
    return {**spec, "truncation": None, "padding": None, "post_processor": None}


def components(spec: Mapping[str, Any], slot: str) -> Iterator[Spec]:
    """Iterate over the components in `slot` (`normalizer`, `pre_tokenizer` or `decoder`), with sequences flattened."""
    yield from _flatten(spec.get(slot), _PARTS[slot])


def prompt_backend(spec: Spec) -> Tokenizer:
    """Build the tokenizer for prompts: special tokens written in the text are parsed, none are added."""
    return Tokenizer.from_str(json.dumps(spec))


def response_backend(spec: Spec) -> Tokenizer:
    """Build the tokenizer for responses, which continue a prompt and contain no special tokens.

    No word-start symbol is prepended (SentencePiece's dummy prefix), and text that looks like a special token is plain text.
    """
    backend = Tokenizer.from_str(json.dumps(_without_prefix(spec)))
    backend.encode_special_tokens = True
    return backend


def _flatten(component: Spec | None, key: str) -> Iterator[Spec]:
    if component is None:
        return
    if component["type"] == "Sequence":
        for part in component[key]:
            yield from _flatten(part, key)
    else:
        yield component


def _without_prefix(spec: Spec) -> Spec:
    normalizers = [c for c in components(spec, "normalizer") if c["type"] != "Prepend"]
    splitters = [copy.deepcopy(c) for c in components(spec, "pre_tokenizer")]
    kinds = {c["type"] for c in splitters}
    if {"WhitespaceSplit", "Metaspace"} <= kinds:
        # T5 drops all blanks and restores them as word prefixes. Without prefixes, collapsed blanks must stay.
        splitters = [c for c in splitters if c["type"] != "WhitespaceSplit"]
        normalizers.append({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "})
        normalizers.append({"type": "Strip", "strip_left": False, "strip_right": True})
    for splitter in splitters:
        if splitter["type"] == "Metaspace":
            splitter["prepend_scheme"] = "never"
            splitter.pop("add_prefix_space", None)
        elif splitter["type"] == "ByteLevel":
            splitter["add_prefix_space"] = False
    return {
        **spec,
        "normalizer": _sequence(normalizers, "normalizer"),
        "pre_tokenizer": _sequence(splitters, "pre_tokenizer"),
    }


def _sequence(parts: list[Spec], slot: str) -> Spec | None:
    return {"type": "Sequence", _PARTS[slot]: parts} if parts else None


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
        raise SourceError(f"The tokenizer of source `{source}` must be in a folder, but `{location}` is not a folder.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, revision=revision, trust_remote_code=trust_remote_code, use_fast=True
        )
    except Exception as error:  # transformers passes on whatever its loaders raise
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


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase, *, spec: Spec | None = None) -> str:
    """Return a sha256 (hex) over what determines the tokens of a text: model, normalisation, splitting, special tokens.

    Equal digests mean equal tokens for every prompt and response. Padding and truncation do not count.

    Args:
        tokenizer: The tokenizer.
        spec: Its `backend_spec`, where that has been read.
    """
    behaviour = {
        "spec": backend_spec(tokenizer) if spec is None else spec,
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
    }
    text = json.dumps(behaviour, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
