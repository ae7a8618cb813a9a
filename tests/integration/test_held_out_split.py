"""Training never reads the test split: a poisoned one changes no bit of warm start and joint training; evaluation reads it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import town

from models.dialogue.data.records import write_turns
from models.dialogue.train.run import train_dialogue
from models.dialogue.train.warm_start.run import warm_start
from models.errors import ArtifactError
from models.evaluation.dialogue.run import HeldOut
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.params.retriever import RetrieverParams
from models.params.runtime import Runtime
from tasks import workspace
from tasks.artifact import publish
from tasks.dialogue import floor_retrieval

TEST = ("test.jsonl", "test.jsonl.offsets")
WARM = RetrieverParams.model_validate(
    {
        "pico": {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.1},
        "max_context_tokens": 32,
        "max_entity_tokens": 32,
        "warm_start": {"steps": 6, "batch_size": 8, "negatives": 4, "hard_negatives": 1, "lr": 3e-3, "every_evaluation": 3},
    }
)
# Calibrated edges, validation and index refreshes: everything in a training that looks at a split.
JOINT = {"meta_knowledge": {"edges": "calibrated"}, "generator_steps": 2, "steps": 6}
VARIANTS = {"prompt": "large_scale", "contrastive": "condensed"}
TEXT, BYTES = b"this is no JSON\n", b"\xc3\x28\xa0\xa1\n\xff\xfe\x00"


@dataclass
class Opened:
    """The names of the files that were opened below a folder, while there is one."""

    below: Path | None = None
    names: set[str] = field(default_factory=set)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or self.below is None or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = Path(os.fsdecode(args[0]))
        if path.is_relative_to(self.below):
            self.names.add(path.name)


_OPENED = Opened()
sys.addaudithook(_OPENED)  # cannot be taken away again, so there is one that mostly sleeps


@pytest.fixture
def opened() -> Iterator[Opened]:
    """`opened.below = folder` starts it."""
    _OPENED.names.clear()
    yield _OPENED
    _OPENED.below = None


def spoil(folder: Path, how: str) -> None:
    """Do something to the test split that would change or end whatever reads it."""
    if how == "another split":
        write_turns(folder / TEST[0], town.make_turns(town.make_kb(), num=9, seed=77))
        return
    for name in TEST:
        (folder / name).unlink()
        if how != "missing":
            (folder / name).write_bytes({"no JSON": TEXT, "no text": BYTES}[how])


def train(data: Path, place: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Run warm start and joint trainings; return all files they write, and all metrics they log."""
    runtime, sinks = Runtime(device="cpu", threads=1), {}
    sink = sinks["warm"] = town.RecordingSink()
    out = place / "warm"
    warm_start(WARM, data, root=place, runtime=runtime, out=out, resume_dir=place / "resume", sink=sink)
    for variant, setting in VARIANTS.items():
        call = town.make_call(place, variant, data=data, warm=out, variant=variant, setting=setting, **JOINT)
        sink = sinks[variant] = town.RecordingSink()
        train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink, log_every=1, **call)
    files = {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}
    # Checkpoints hold the places of their folders; the trained models and records are compared whole.
    return {name: content for name, content in files.items() if "resume" not in Path(name).parts}, {
        name: {step: {k: v for k, v in row.items() if k != "train/tokens_per_s"} for step, row in sink.rows.items()}
        for name, sink in sinks.items()
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = town.write_data(tmp_path_factory.mktemp("town") / "data")
    assert all((folder / name).is_file() for name in TEST)
    return folder


@pytest.fixture(scope="module")
def trained(good: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    return train(good, tmp_path_factory.mktemp("good"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder for steps that are called as functions: no Prefect server is needed."""
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    yield tmp_path
    workspace.project_root.cache_clear()


@pytest.mark.parametrize("how", ["no JSON", "no text", "another split", "missing"])
def test_training_does_not_look_at_the_test_split(how: str, good: Path, trained: Any, tmp_path: Path, opened: Opened) -> None:
    data = shutil.copytree(good, tmp_path / "data")
    spoil(data, how)
    opened.below = data
    files, logged = train(data, tmp_path / "run")
    assert {"kb.jsonl", "values.json", "train.jsonl", "valid.jsonl"} <= opened.names
    assert not opened.names & set(TEST)
    expected, figures = trained
    assert {"warm/record.json", "prompt/out/best_generator/generator/model.safetensors"} <= expected.keys() == files.keys()
    assert [name for name in expected if files[name] != expected[name]] == []
    assert logged == figures


@pytest.mark.parametrize("split", ["train", "valid"])
def test_what_training_reads_does_change_it(split: str, good: Path, trained: Any, tmp_path: Path) -> None:
    """Guards the test above."""
    data = shutil.copytree(good, tmp_path / "data")
    write_turns(data / f"{split}.jsonl", town.make_turns(town.make_kb(), num=12, seed=77))
    _, logged = train(data, tmp_path / "run")
    assert [name for name in logged if logged[name] == trained[1][name]] == []


@pytest.mark.parametrize("how", ["no JSON", "no text"])
def test_evaluation_is_what_reads_it(how: str, good: Path, project: Path, opened: Opened) -> None:
    data = shutil.copytree(good, project / "data")
    spoil(data, how)
    cfg = DialogueEvaluationParams(recall_at=(1,))
    refused = r"`\S+/test\.jsonl` line 1 is no turn \(.+\)\. Run the stage that wrote it again"
    given = {"kind": "embedded", "condensed": False}
    opened.below = data
    with pytest.raises(ArtifactError, match=refused):
        HeldOut(data, cfg, root=project, **given)
    assert "test.jsonl" in opened.names and not opened.names & {"train.jsonl", "valid.jsonl"}
    valid = HeldOut(data, cfg.model_copy(update={"split": "valid"}), root=project, **given)
    assert len(valid.turns) == 10, "the other split is sound"

    artifact = publish(data, "dialogues", meta={})
    with pytest.raises(ArtifactError, match=refused):
        floor_retrieval.fn(cfg, artifact, floor="bm25", num=3, **given)
    on_valid = floor_retrieval.fn(cfg.model_copy(update={"split": "valid"}), artifact, floor="bm25", num=3, **given)
    assert on_valid.meta["rows"] == 10
