"""The arguments of one joint training, and what tells it from another."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from models.data.dialogue_files import KB, VALUES, file_digest, splits_of
from models.params.dialogue import DialogueParams, Variant
from models.params.dialogues import Setting
from models.params.index import IndexParams
from models.params.runtime import Runtime
from models.training.checkpoints import tree_digest

# How a step is cut up changes nothing but rounding; the first run's value is kept. Checkpoints are refreshes, so they do count.
_NOT_IN_FINGERPRINT = {"joint": {"micro_batch_size"}}


@dataclass(frozen=True, slots=True)
class DialogueJob:
    """The arguments of `train_dialogue` but for the sink."""

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

    def fingerprint(self) -> str:
        """Return the sha256 over everything that decides the result; checkpoints of another training are not resumed.

        A generator given as a folder enters by its content, one of the hub by name and revision. The test split is not read.
        """
        splits = splits_of(self.data)
        read = (self.data / KB, self.data / VALUES, splits["train"], splits["valid"])
        generator = self.cfg.generator
        folder = self.root / generator.model
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
