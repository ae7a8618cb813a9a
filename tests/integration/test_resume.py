"""An interrupted training, started again, ends with the bytes of an uninterrupted one."""

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.fusion.train.distributed import FusionJob
from models.fusion.train.run import train_fusion
from models.fusion.train.trainer import FusionTrainer
from models.metrics_sink import NullSink
from models.params.runtime import Runtime

# 12 steps, the switch after the 6th, dropout on. Stops lie before the first checkpoint, at the switch, and in each phase.
CALL = {"dropout": True, "checkpoints": {"every_steps": 4}}
CHECKPOINTS_AT = {3: [], 6: [4], 7: [4], 11: [4, 8]}


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
    return train_fusion(sink=sink or NullSink(), log_every=1, **{**call, **changes})


def checkpoints(call) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in call["resume_dir"].glob("checkpoint-*"))


def stop_at(call, step: int) -> None:
    with pytest.raises(Interruption):
        train(call, InterruptingSink(step))
    assert not (call["out"] / "model").exists()


def assert_same(got: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name in expected if got[name] != expected[name]] == []


@pytest.mark.parametrize("changes", [{}, {"optimiser_at_switch": "restart"}, {"lora": {"rank": 2, "dropout": 0.1}}])
def test_resumed_equals_uninterrupted(fusion_call, changes):
    if "lora" in changes:
        pytest.importorskip("peft")
    whole, broken = (fusion_call(name, **CALL, **changes) for name in ("whole", "broken"))
    record = train(whole)
    assert record.total_steps == 12 and record.phases[0].last_step == 6
    expected = files(whole["out"])
    assert {"model/model.safetensors", "phase-1/model.safetensors", "record.json"} <= expected.keys()

    for step, there in CHECKPOINTS_AT.items():
        stop_at(broken, step)
        assert checkpoints(broken) == there
    assert train(broken) == record
    assert_same(files(broken["out"]), expected)


def test_without_the_random_state_the_bytes_differ(fusion_call, monkeypatch):
    """Guards the test above: dropout does draw, and restoring its state is what makes the bytes equal."""
    whole, broken = fusion_call("whole", **CALL), fusion_call("broken", **CALL)
    train(whole)
    stop_at(broken, 7)
    monkeypatch.setattr(FusionTrainer, "_load_rng_state", lambda self, checkpoint: None)
    train(broken)
    model = "model/model.safetensors"
    assert files(broken["out"])[model] != files(whole["out"])[model]


def test_present_execution_gives_way_to_the_first(fusion_call, caplog):
    whole, broken = fusion_call("whole", **CALL), fusion_call("broken", **CALL)
    train(whole)
    stop_at(broken, 7)
    other = broken["cfg"].model_copy(update={"micro_batch_size": 8})
    with caplog.at_level(logging.WARNING):
        train(broken, cfg=other, runtime=Runtime(device="cpu", threads=2))
    assert "threads 1 (now 2), micro_batch_size 4 (now 8)" in caplog.text
    assert_same(files(broken["out"]), files(whole["out"]))


def test_other_parameters_start_over(fusion_call, caplog):
    broken = fusion_call("broken", **CALL)
    stop_at(broken, 7)
    other = {"cfg": broken["cfg"].model_copy(update={"lr": 1e-3})}
    fresh = fusion_call("fresh", **CALL)
    with caplog.at_level(logging.WARNING):
        train(broken, **other)
    assert "checkpoint-4`: it belongs to other parameters" in caplog.text
    train(fresh, **other)
    assert_same(files(broken["out"]), files(fresh["out"]))


def test_result_is_made_again_when_only_the_state_is_left(fusion_call):
    """`dvc repro` deletes the outputs of a stage before it runs."""
    call = fusion_call("run", **CALL)
    record = train(call)
    expected = files(call["out"])
    shutil.rmtree(call["out"])
    assert train(call) == record
    assert_same(files(call["out"]), expected)


def test_death_while_a_checkpoint_is_written(fusion_call, monkeypatch):
    whole, broken = fusion_call("whole", **CALL), fusion_call("broken", **CALL)
    train(whole)
    save = FusionTrainer._save_optimizer_and_scheduler

    def die(self, output_dir):
        if self.state.global_step == 8:
            raise Interruption
        save(self, output_dir)

    with monkeypatch.context() as patch:
        patch.setattr(FusionTrainer, "_save_optimizer_and_scheduler", die)
        with pytest.raises(Interruption):
            train(broken)
    assert (broken["resume_dir"] / "writing" / "checkpoint-8" / "model.safetensors").exists()
    assert checkpoints(broken) == [4]
    train(broken)
    assert_same(files(broken["out"]), files(whole["out"]))
    assert not (broken["resume_dir"] / "writing").exists()


def test_checkpoints_hold_no_pickled_objects(fusion_call):
    """Whatever lies in a checkpoint loads with `weights_only`; Trainer's pickled arguments are not written."""
    import torch
    from transformers.trainer_pt_utils import safe_globals

    call = fusion_call("run", **CALL)
    stop_at(call, 6)
    folder = call["resume_dir"] / "checkpoint-4"
    names = {p.name for p in folder.iterdir()}
    pickles = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert names == {*pickles, "model.safetensors", "trainer_state.json", "state.json", "complete.json"}
    with safe_globals():
        for name in pickles:
            torch.load(folder / name, weights_only=True)


def test_killed_process(fusion_call):
    """SIGKILL in the second phase, in a separate process."""
    whole, killed = fusion_call("whole", **CALL), fusion_call("killed", **CALL)
    train(whole)
    path = FusionJob(log_every=1, **killed).write()
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS_AT_STEP_7, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    events, deadline = killed["resume_dir"] / "events.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if events.exists() and '"step": 7' in events.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL, output
    assert checkpoints(killed) == [4] and not killed["out"].exists()
    train(killed)
    assert_same(files(killed["out"]), files(whole["out"]))


HANGS_AT_STEP_7 = """
import sys, time
from pathlib import Path
from models.fusion.train.distributed import EventSink
from models.fusion.train.run import run_rank

log = EventSink.log
def log_and_hang(self, metrics, *, step):
    log(self, metrics, step=step)
    time.sleep(600 if step == 7 else 0)
EventSink.log = log_and_hang
run_rank(Path(sys.argv[1]))
"""
