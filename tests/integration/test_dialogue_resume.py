"""An interrupted joint training, started again, ends with the bytes of an uninterrupted one."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import town

from models.dialogue.train import index_refresh
from models.dialogue.train.run import train_dialogue
from models.metrics_sink import NullSink
from models.training.trainer import ResumableTrainer

_PATH = Path(town.__file__)

# 8 steps; refreshes after 3 and 6, evaluations after 0, 4 and 8, a checkpoint after 4 (and 2, 6 where it says so). Dropout is on.
RUNS = {
    "prompt": {},
    "contrastive-condensed": {"variant": "contrastive", "setting": "condensed", "negative_entity": "random", "k": 4},
    "phases": {
        "variant": "prefix",
        "generator_steps": 2,
        "steps": 6,
        "refresh": {"every_steps": 3, "until_step": 3},
        "learn_temperature": True,
        "negative_entity": "next_rank",
        "every_checkpoint": 2,
    },
    "causal": {"generator": {"kind": "causal", "pico": town.T5}},
    "frozen-calibrated": {"retriever_lr": 0.0, "meta_knowledge": {"edges": "calibrated"}, "every_checkpoint": 3},
    "hybrid": {"negative_entity": "lowest"},
}


class Interruption(Exception):
    pass


class InterruptingSink(NullSink):
    """Raises when a step is reported: in the middle of the loop, as when a tracking server is gone."""

    def __init__(self, step: int) -> None:
        self._step = step

    def log(self, metrics, *, step: int) -> None:
        if step >= self._step:
            raise Interruption(step)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def train(call, sink=None, **changes):
    call = {**call, **changes}
    return train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink or NullSink(), log_every=1, **call)


def checkpoints(call) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in call["resume_dir"].glob("checkpoint-*"))


def stop_at(call, step: int) -> None:
    with pytest.raises(Interruption):
        train(call, InterruptingSink(step))
    assert not call["out"].exists()


def assert_same(got: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name in expected if got[name] != expected[name]] == []


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("town")
    data = town.write_data(root / "data")
    return {"data": data, "warm": town.write_warm(root / "warm", data)}


@pytest.fixture
def call(inputs, tmp_path):
    return lambda name="run", **params: town.make_call(tmp_path, name, **inputs, **params)


@pytest.mark.parametrize("name", RUNS)
def test_resumed_equals_uninterrupted(call, name, inputs, tmp_path):
    whole, broken = call("whole", **RUNS[name]), call("broken", **RUNS[name])
    if name == "hybrid":
        whole["warm"] = broken["warm"] = town.write_warm(tmp_path / "warm", inputs["data"], scoring="hybrid")
    record = train(whole)
    expected = files(whole["out"])
    places = ("best_generator/generator", "best_generator/retriever", "best_retriever/retriever")
    assert {f"{place}/model.safetensors" for place in places} | {"meta.json", "record.json"} <= expected.keys()

    every, there = broken["cfg"].joint.every_checkpoint, []
    for step in (3, 5, 8) if name == "prompt" else (7,):
        stop_at(broken, step)
        there = [s for s in range(every, step, every)][-2:]
        assert checkpoints(broken) == there
    assert there
    assert train(broken) == record
    assert_same(files(broken["out"]), expected)


def test_without_the_random_state_the_bytes_differ(call, monkeypatch):
    """Guards the test above: dropout does draw, and restoring its state is what makes the bytes equal."""
    whole, broken = call("whole"), call("broken")
    train(whole)
    stop_at(broken, 7)
    monkeypatch.setattr(ResumableTrainer, "_load_rng_state", lambda self, checkpoint: None)
    train(broken)
    assert json.loads(files(broken["out"])["record.json"])["final"] != json.loads(files(whole["out"])["record.json"])["final"]


def test_without_a_refresh_at_the_checkpoint_the_bytes_differ(call, monkeypatch):
    """Guards it as well: a resumed run embeds with the encoder of the checkpoint, so the uninterrupted one must, too."""
    params = {"refresh": {"every_steps": 100}, "every_evaluation": 100, "retriever_lr": 0.03, "k": 6}
    whole, broken = call("whole", **params), call("broken", **params)
    stop_at(broken, 7)
    train(broken)
    from models.dialogue.train.index_refresh import IndexRefresher

    refresh = IndexRefresher.refresh
    with monkeypatch.context() as patch:
        patch.setattr(IndexRefresher, "refresh", lambda self: refresh(self) if self._index is None else False)
        train(whole)
    assert json.loads(files(broken["out"])["record.json"])["final"] != json.loads(files(whole["out"])["record.json"])["final"]


def test_refreshes_embed_everything_when_the_encoder_trains_and_nothing_when_it_is_frozen(call, monkeypatch):
    embedded: list[int] = []
    embed = index_refresh.embed_entities
    monkeypatch.setattr(
        index_refresh,
        "embed_entities",
        lambda *args, **kw: (lambda reps: (embedded.append(len(reps)), reps)[1])(embed(*args, **kw)),
    )
    train(call("trained"))
    assert embedded == [12] * 5  # at the start, after 3, 4 (evaluation and checkpoint), 6 and 8
    for name, params in {
        "lr": {"retriever_lr": 0.0},
        "beta": {"beta": 0.0},
        "generator": {"generator_steps": 8, "steps": 0},
    }.items():
        embedded.clear()
        train(call(name, **params))
        assert embedded == [12]
    embedded.clear()
    train(call("until", refresh={"every_steps": 2, "until_step": 3}))
    assert embedded == [12] * 3  # at the start, after 2, and after 3: from then on the encoder is frozen


def test_frozen_retriever_keeps_its_bytes(call, inputs):
    weights = (inputs["warm"] / "retriever/model.safetensors").read_bytes()
    frozen, trained = call("frozen", beta=0.0), call("trained")
    train(frozen), train(trained)
    assert (frozen["out"] / "best_generator/retriever/model.safetensors").read_bytes() == weights
    assert train(trained).best_generator.step > 0
    assert (trained["out"] / "best_generator/retriever/model.safetensors").read_bytes() != weights


def test_other_parameters_start_over(call, caplog):
    broken = call("broken")
    stop_at(broken, 7)
    other = call("fresh", beta=0.5)
    with caplog.at_level(logging.WARNING):
        train(broken, cfg=other["cfg"])
    assert "checkpoint-4`: it belongs to other parameters" in caplog.text
    train(other)
    assert_same(files(broken["out"]), files(other["out"]))


def test_result_is_made_again_when_only_the_state_is_left(call):
    run = call()
    record = train(run)
    expected = files(run["out"])
    shutil.rmtree(run["out"])
    assert train(run) == record
    assert_same(files(run["out"]), expected)


def test_a_lost_choice_makes_the_training_start_again(call, caplog):
    whole, broken = call("whole"), call("broken")
    train(whole)
    stop_at(broken, 7)
    for folder in broken["resume_dir"].glob("best-*"):
        shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        train(broken)
    assert "the models chosen before it are missing or were altered (best_generator-" in caplog.text
    assert_same(files(broken["out"]), files(whole["out"]))


def test_checkpoints_hold_no_pickled_objects(call):
    import torch
    from transformers.trainer_pt_utils import safe_globals

    run = call()
    stop_at(run, 6)
    folder = run["resume_dir"] / "checkpoint-4"
    pickles = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    names = {p.name for p in folder.iterdir()}
    assert names == {*pickles, "model.safetensors", "trainer_state.json", "state.json", "complete.json"}
    with safe_globals():
        for name in pickles:
            torch.load(folder / name, weights_only=True)


def test_killed_process(call, tmp_path):
    """SIGKILL after the checkpoint, in a separate process."""
    whole, killed = call("whole"), call("killed")
    train(whole)
    mark = tmp_path / "step"
    command = [
        sys.executable,
        "-c",
        HANGS_AT_STEP_6,
        str(_PATH),
        str(tmp_path),
        str(killed["data"]),
        str(killed["warm"]),
        str(mark),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not mark.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL, output
    assert checkpoints(killed) == [4] and not killed["out"].exists()
    train(killed)
    assert_same(files(killed["out"]), files(whole["out"]))


HANGS_AT_STEP_6 = """
import importlib.util, sys, time
from pathlib import Path

spec = importlib.util.spec_from_file_location("town", sys.argv[1])
town = importlib.util.module_from_spec(spec)
spec.loader.exec_module(town)
from models.metrics_sink import NullSink
from models.dialogue.train.run import train_dialogue

class Sink(NullSink):
    def log(self, metrics, *, step):
        if step == 6:
            Path(sys.argv[5]).touch()
            time.sleep(600)

root, data, warm = map(Path, sys.argv[2:5])
call = town.make_call(root, "killed", data=data, warm=warm)
train_dialogue(call.pop("cfg"), call.pop("index"), sink=Sink(), log_every=1, **call)
"""
