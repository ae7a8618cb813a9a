"""What a joint training was and came to; the same for an interrupted and an uninterrupted run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.training.checkpoints import write_json
from models.training.dialogue_selection import Chosen

RECORD, META = "record.json", "meta.json"


@dataclass(frozen=True, slots=True)
class DialogueRecord:
    """The record of one joint training.

    Attributes:
        variant: `none`, `prefix`, `prompt` or `contrastive`.
        setting: `large_scale` or `condensed`.
        objective: What trained the retriever; "" where it was frozen.
        num_turns: Training turns.
        num_entities: N.
        num_retrieved: K.
        generator_steps: Steps of the generator alone.
        total_steps: All optimiser steps.
        temperature: τ at the end.
        edges: Scores at which confidence becomes middle and high.
        start: Validation metrics of the start (warm-started retriever, untrained generator).
        best_generator: The pair chosen for its responses.
        best_retriever: The retriever chosen for its recall.
        digests: Folder → sha256 over its files.
        final: Losses of the last report.
    """

    variant: str
    setting: str
    objective: str
    num_turns: int
    num_entities: int
    num_retrieved: int
    generator_steps: int
    total_steps: int
    temperature: float
    edges: tuple[float, float]
    start: Mapping[str, float]
    best_generator: Chosen
    best_retriever: Chosen
    digests: Mapping[str, str]
    final: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        best = {name: getattr(self, name).to_json() for name in ("best_generator", "best_retriever")}
        return {**asdict(self), **best, "edges": list(self.edges)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueRecord":
        """Build from `to_json` output."""
        best = {name: Chosen.from_json(row[name]) for name in ("best_generator", "best_retriever")}
        return cls(**{**row, **best, "edges": tuple(row["edges"])})

    def write(self, folder: Path) -> None:
        """Write `record.json`."""
        write_json(folder / RECORD, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> "DialogueRecord":
        """Read `record.json`."""
        return cls.from_json(json.loads((folder / RECORD).read_text(encoding="utf-8")))
