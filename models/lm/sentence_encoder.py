"""Loading of BERT-like sentence encoders and their tokenizers, and tokenisation with explicit special tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from models.errors import ParamsError, Problem, SourceError
from models.lm.installed import PACKAGE, find_package
from models.lm.weights import refuse_adapter

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A tokenizer whose special tokens are added explicitly: truncation never drops them, and text cannot spell one.

    Attributes:
        tokenizer: The tokenizer; its own truncation and padding are switched off.
        cls_id: First token of every text.
        sep_id: Last token of every text.
        pad_id: Padding.
    """

    tokenizer: Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int

    def __post_init__(self) -> None:
        """Switch off truncation, padding and parsing of special tokens, which many published tokenizers switch on."""
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True

    def encode(self, texts: Sequence[str], *, max_tokens: int, drop: Literal["left", "right"]) -> list[list[int]]:
        """Tokenise texts.

        Args:
            texts: Any text, also an empty one.
            max_tokens: Maximum length, including the two special tokens.
            drop: The side on which a long text is truncated.
        """
        room = max_tokens - 2
        rows = []
        for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False):
            ids = encoding.ids
            if len(ids) > room:
                ids = ids[len(ids) - room :] if drop == "left" else ids[:room]
            rows.append([self.cls_id, *ids, self.sep_id])
        return rows

    def pad(self, rows: Sequence[Sequence[int]], *, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return input_ids and attention_mask, both int64[B, T], padded on the right."""
        width = max((len(row) for row in rows), default=0)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = 1
        if torch.device(device).type == "cuda":
            ids, mask = ids.pin_memory(), mask.pin_memory()
        return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)

    def special_ids(self) -> dict[str, Any]:
        """Return the ids of the special tokens, JSON-ready."""
        return {"cls_id": self.cls_id, "sep_id": self.sep_id, "pad_id": self.pad_id}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / TOKENIZER))


KEY = "retriever.encoder"


def find_encoder(name: str, *, revision: str | None, root: Path, key: str = KEY) -> tuple[str, str | None]:
    """Return location and revision of an encoder: (absolute folder, None), or (hub name, revision).

    Args:
        name: `package:<module>` (its folder `model`; nothing is imported), a folder, or a hub name.
        revision: Hub revision.
        root: Base of relative folders.
        key: Params key of `name`, for errors; `revision` is next to it.

    Raises:
        ParamsError: A hub name without a revision.
        SourceError: The package or its folder is not there.
    """
    if name.startswith(PACKAGE):
        return str(_package_folder(name.removeprefix(PACKAGE), key)), None
    folder = (root / Path(name).expanduser()).absolute()
    if folder.is_dir():
        return str(folder), None
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SourceError(f"`{key}` names the folder {folder}, but it does not exist. Check the path{_or_pico(key)}.")
    if revision is None:
        hint = f"No folder {folder} exists; give the commit to use, so that the run can be repeated, or a folder{_or_pico(key)}."
        where = f"`{key.rpartition('.')[0]}.revision`"
        raise ParamsError("Invalid parameters", [Problem(where, f"must be set for `{name}`", "null", hint)])
    return name, revision


def load_encoder(location: str, *, revision: str | None, key: str = KEY) -> tuple[PreTrainedModel, TextTokenizer]:
    """Load an encoder in float32, in evaluation mode, and its tokenizer.

    Raises:
        SourceError: It cannot be loaded, lacks weights, or is not a BERT-like encoder.
    """
    refuse_adapter(location, revision=revision, where=f"`{key}`")
    tokeniser = _load_tokeniser(location, revision, key)
    try:
        model, info = AutoModel.from_pretrained(location, revision=revision, dtype=torch.float32, output_loading_info=True)
    except Exception as err:  # transformers passes on whatever its loaders raise
        raise SourceError(f"`{key}`: no encoder can be loaded from {location} ({_short(err)}). Name another one.") from err
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise SourceError(f"`{key}`: the checkpoint in {location} must hold every weight, but lacks {', '.join(missing[:5])}.")
    return drop_pooler(cast(PreTrainedModel, model), where=location, key=key), tokeniser


def drop_pooler(model: PreTrainedModel, *, where: str, key: str = KEY) -> PreTrainedModel:
    """Remove BERT's pooler, whose unused weights would enter optimiser and digest; refuse a model that is not an encoder.

    Raises:
        SourceError: It is an encoder–decoder, or has no `hidden_size`.
    """
    if model.config.is_encoder_decoder or not hasattr(model.config, "hidden_size"):
        kind = type(model).__name__
        raise SourceError(f"`{key}`: {where} must hold a BERT-like encoder, but holds a {kind}. Name another one{_or_pico(key)}.")
    if getattr(model, "pooler", None) is not None:
        cast(Any, model).pooler = None
    return model


def _load_tokeniser(location: str, revision: str | None, key: str) -> TextTokenizer:
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
    except Exception as err:  # as above
        raise SourceError(f"`{key}`: no tokenizer can be loaded from {location} ({_short(err)}). Copy its files too.") from err
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or None in ids:
        raise SourceError(
            f"`{key}`: the tokenizer in {location} must be a fast one with [CLS], [SEP] and [PAD], but is "
            f"{type(tokenizer).__name__} with ids {ids}. Name a BERT-like encoder."
        )
    return TextTokenizer(tokenizer.backend_tokenizer, cls_id=ids[0], sep_id=ids[1], pad_id=ids[2])


def _package_folder(module: str, key: str) -> Path:
    package = find_package(module)
    if package is None:
        raise SourceError(f"`{key}` names the package `{module}`, but it is not installed. Install it{_or_pico(key)}.")
    folder = package / "model"
    if not folder.is_dir():
        raise SourceError(f"`{key}` names the package `{module}`, but its folder {folder} does not exist. Name another package.")
    return folder


def _or_pico(key: str) -> str:
    """Return the alternative that only the retriever has, for error messages."""
    return ", or use `pico`" if key == KEY else ""


def _short(err: BaseException) -> str:
    text = " ".join(str(err).split()) or type(err).__name__
    return text if len(text) <= 300 else text[:299] + "…"
