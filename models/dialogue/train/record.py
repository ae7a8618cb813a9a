"""Job and record of a joint training; the record is the same whether or not the training was interrupted."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.dialogue.data.records import KB, VALUES, splits_of
from models.dialogue.train.selection import Chosen
from models.files import file_digest, tree_digest
from models.params.dialogue import DialogueParams, Variant
from models.params.dialogues import Setting
from models.params.index import IndexParams
from models.params.runtime import Runtime
from models.records import from_row, to_row
from models.training.checkpoints import write_json

# How a step is cut up changes nothing but rounding; the first run's value is kept. Checkpoints are refreshes, so they do count.
_NOT_IN_FINGERPRINT = {"joint": {"micro_batch_size"}}


@dataclass(frozen=True, slots=True)
class DialogueJob:
    """The arguments of `train_dialogue` without the sink."""

    cfg: DialogueParams
    index: IndexParams
    variant: Variant
    setting: Setting
    data: Path
    warm: Path
    root: Path
    runtime: Runtime
    out: Path
    resume_dir: Path
    log_every: int
    generator: Path | None = None

    def fingerprint(self) -> str:
        """Return the sha256 over everything that decides the result; checkpoints of another training are not resumed.

        A generator given as a folder enters by its content, one of the hub by name and revision. The test split is not read.
        """
        splits = splits_of(self.data)
        read = (self.data / KB, self.data / VALUES, splits["train"], splits["valid"])
        generator = self.cfg.generator
        folder = self.generator or self.root / generator.model
        row = {
            "cfg": self.cfg.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT),
            "index": self.index.model_dump(mode="json"),
            "variant": self.variant,
            "setting": self.setting,
            "data": [file_digest(path) for path in read],
            "retriever": tree_digest(self.warm / "retriever"),
            "generator": tree_digest(folder) if generator.model != "pico" and folder.is_dir() else None,
        }
        return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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

    def write(self, folder: Path) -> None:
        """Write `record.json` into a folder."""
        write_json(folder / RECORD, to_row(self))

    @classmethod
    def read(cls, folder: Path) -> "DialogueRecord":
        """Return the record of a folder's `record.json`."""
        return from_row(cls, json.loads((folder / RECORD).read_text(encoding="utf-8")))
