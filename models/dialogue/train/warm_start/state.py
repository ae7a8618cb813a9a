"""State and record of a warm start: enough to resume after a kill and end with the same bits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.dialogue.retrieval.encoder import Retriever
from models.params.retriever import WarmStartParams
from models.records import from_row, to_row
from models.training.checkpoints import CheckpointFolder, place_folder, write_json

_WEIGHTS, _OPTIMISER, _STATE, _BEST = "weights.safetensors", "optimiser.pt", "state.json", "best"


@dataclass(slots=True)
class WarmState:
    """Progress of a warm start.

    Attributes:
        done: Finished optimiser steps.
        best_step: Finished steps of the best encoder so far.
        best_choice: Its score (`RecallScores.choice`).
        best_recall: Its recalls by metric name.
        losses: Losses of the steps since the last log, nats a turn.
    """

    done: int = 0
    best_step: int = -1
    best_choice: float = -1.0
    best_recall: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


def make_optimiser(retriever: Retriever, cfg: WarmStartParams) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices only (no norms, no biases); the weights of the score are the last group."""
    weights = [p for p in retriever.towers.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    for group in groups:
        group["factor"] = 1.0
    if retriever.scorer is not None:
        factor = retriever.cfg.lexical.lr_factor
        groups.append({"params": list(retriever.scorer.parameters()), "weight_decay": 0.0, "factor": factor})
    return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)


def save_state(
    folder: CheckpointFolder, state: WarmState, retriever: Retriever, optimiser: torch.optim.Optimizer, *, best: Path | None
) -> Path:
    """Write a checkpoint aside and commit it when complete.

    Args:
        folder: Where checkpoints are kept.
        state: Progress.
        retriever: The encoder as trained so far.
        optimiser: Its optimiser.
        best: Folder of the best encoder if it is not the present one; None = the present one is the best.

    Returns:
        The folder of the best encoder in the new checkpoint.
    """
    place = folder.writing / f"checkpoint-{state.done}"
    place.mkdir(parents=True)
    save_file({name: w.detach().cpu().contiguous() for name, w in retriever.state_dict().items()}, str(place / _WEIGHTS))
    torch.save(optimiser.state_dict(), place / _OPTIMISER)
    if best is None:
        retriever.save(place / _BEST)
    else:
        place_folder(best, place / _BEST)
    write_json(place / _STATE, to_row(state))
    final = folder.commit(state.done)
    folder.writing.rmdir()
    return final / _BEST


def load_state(place: Path, retriever: Retriever, optimiser: torch.optim.Optimizer) -> tuple[WarmState, Path]:
    """Load weights and optimiser in place; return the progress and the folder of the best encoder so far."""
    retriever.load_state_dict(load_file(str(place / _WEIGHTS), device=str(retriever.device)))
    optimiser.load_state_dict(torch.load(place / _OPTIMISER, map_location=retriever.device, weights_only=True))
    row: dict[str, Any] = json.loads((place / _STATE).read_text(encoding="utf-8"))
    return from_row(WarmState, row), place / _BEST


RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class WarmRecord:
    """The record of one warm start.

    Attributes:
        digest: `Retriever.digest()` of the encoder that was kept.
        encoder: Name of the encoder it started from.
        kb_digest: Knowledge base it was trained on.
        dim: Width of its vectors.
        num_turns: Turns of the training split.
        num_examples: Those with a pseudo positive.
        steps: Optimiser steps.
        best_step: Steps after which the kept encoder was best on the validation split.
        recall: Its recalls there, by metric name.
        num_by_value: Validation turns that the recalls by value are over.
        num_by_id: Validation turns that the recalls by id are over.
        weights: Weights of the hybrid score of the kept encoder, by name; empty for the cosine.
    """

    digest: str
    encoder: str
    kb_digest: str
    dim: int
    num_turns: int
    num_examples: int
    steps: int
    best_step: int
    recall: Mapping[str, float]
    num_by_value: int
    num_by_id: int
    weights: Mapping[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `record.json` into a folder."""
        write_json(folder / RECORD, to_row(self))

    @classmethod
    def read(cls, folder: Path) -> "WarmRecord":
        """Return the record of a folder's `record.json`."""
        return from_row(cls, json.loads((folder / RECORD).read_text(encoding="utf-8")))
