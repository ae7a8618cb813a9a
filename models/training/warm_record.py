"""What a warm start was and came to; the same for an interrupted and an uninterrupted run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from models.training.checkpoints import write_json

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

    def write(self, folder: Path) -> None:
        """Write `record.json`."""
        write_json(folder / RECORD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "WarmRecord":
        """Read `record.json`."""
        return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
