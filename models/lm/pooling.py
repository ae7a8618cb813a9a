"""Sentence embeddings from token states: pooling, projection, L2 normalisation, and a sentence-transformers folder's settings."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from models.errors import SourceError

Pooling = Literal["mean", "cls", "max", "last"]


def pool(states: Tensor, mask: Tensor, kind: Pooling) -> Tensor:
    """Pool token states into one vector per row.

    Args:
        states: float[B, T, D].
        mask: int64[B, T], 1 at tokens, 0 at padding; every row has a token.
        kind: `mean` or `max` over the tokens, or the state of the first (`cls`) or `last` one.

    Returns:
        float[B, D].
    """
    if kind == "cls":
        return states[:, 0]
    if kind == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    if kind == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


class Tower(nn.Module):
    """An encoder with its pooling and, if `projection` > 0, a dense layer with tanh (as MAKER's, 128 wide)."""

    def __init__(self, encoder: PreTrainedModel, *, pooling: Pooling, projection: int) -> None:
        """Wrap `encoder`; the dense layer is drawn from torch's global generator."""
        super().__init__()
        self.encoder = encoder
        self.pooling: Pooling = pooling
        width = int(encoder.config.hidden_size)
        self.dense = nn.Linear(width, projection) if projection else None
        self.dim = projection or width

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors, float32[B, D], of input_ids int64[B, T] (under autocast, too)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = pool(states.float(), attention_mask, self.pooling)
        if self.dense is not None:
            pooled = torch.tanh(self.dense(pooled))
        return F.normalize(pooled.float(), dim=-1)


_MODULES, _POOLING = "modules.json", "1_Pooling/config.json"
_MODES: dict[str, Pooling] = {
    "cls_token": "cls",
    "cls": "cls",
    "mean_tokens": "mean",
    "mean": "mean",
    "max_tokens": "max",
    "max": "max",
    "lasttoken": "last",
}
# The transformer is loaded as such, and our vectors have length 1 in any case.
_KNOWN = frozenset({"Transformer", "Pooling", "Normalize"})
_CURE = "Name another encoder, or set `retriever.pooling`."


def read_pooling(location: str, *, revision: str | None) -> Pooling | None:
    """Return the pooling that an encoder folder or hub name declares; None if it declares none.

    Raises:
        SourceError: It has modules or a pooling that are not supported, or its files are malformed.
    """
    modules = _read(location, _MODULES, revision)
    place = _POOLING
    if modules is not None:
        kinds = _kinds(modules, location)
        if unknown := [kind for kind, _ in kinds if kind not in _KNOWN]:
            raise _refused(location, f"{_MODULES} must hold Transformer, Pooling and Normalize only", ", ".join(unknown))
        folders = [folder for kind, folder in kinds if kind == "Pooling"]
        if len(folders) != 1:
            raise _refused(location, f"{_MODULES} must hold one Pooling", str(len(folders)))
        place = f"{folders[0]}/config.json"
    config = _read(location, place, revision)
    if config is None:
        if modules is None:
            return None
        raise _refused(location, f"{place} must be there", "missing")
    return _mode(config, location, place)


def _kinds(modules: Any, location: str) -> list[tuple[str, str]]:
    try:
        return [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in modules]
    except (TypeError, KeyError) as err:
        raise _refused(location, f"{_MODULES} must list modules with `type` and `path`", repr(err)) from err


def _mode(config: Any, location: str, place: str) -> Pooling:
    if not isinstance(config, dict):
        raise _refused(location, f"{place} must hold an object", type(config).__name__)
    prefix = "pooling_mode_"
    modes = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    if not modes and isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise _refused(location, f"{place} must name one pooling of {', '.join(dict.fromkeys(_MODES.values()))}", f"{modes}")
    return _MODES[modes[0]]


def _read(location: str, name: str, revision: str | None) -> Any:
    """Return the content of an encoder's JSON file; None if there is no such file."""
    try:
        found = cached_file(
            location,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
        )
        return None if found is None else json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise _refused(location, f"{name} must be a readable JSON file", " ".join(str(err).split())) from err


def _refused(location: str, rule: str, value: str) -> SourceError:
    return SourceError(f"`retriever.encoder`: in {location}, {rule}, but is {value}. {_CURE}")
