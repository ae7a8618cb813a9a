"""Where a warm start stands, in memory and on disk: enough to go on after a kill and end with the same bits."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.params.retriever import WarmStartParams
from models.retrieval.encoder import Retriever
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
    """Return AdamW that decays matrices only (no norms, no biases)."""
    weights = [p for p in retriever.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)


def save_state(
    folder: CheckpointFolder, state: WarmState, retriever: Retriever, optimiser: torch.optim.Optimizer, *, best: Path | None
) -> Path:
    """Write a checkpoint; it takes its place when complete.

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
    write_json(place / _STATE, asdict(state))
    final = folder.commit(state.done)
    folder.writing.rmdir()
    return final / _BEST


def load_state(place: Path, retriever: Retriever, optimiser: torch.optim.Optimizer) -> tuple[WarmState, Path]:
    """Put weights and optimiser back; return the progress and the folder of the best encoder so far."""
    retriever.load_state_dict(load_file(str(place / _WEIGHTS), device=str(retriever.device)))
    optimiser.load_state_dict(torch.load(place / _OPTIMISER, map_location=retriever.device, weights_only=True))
    row: dict[str, Any] = json.loads((place / _STATE).read_text(encoding="utf-8"))
    return WarmState(**row), place / _BEST
