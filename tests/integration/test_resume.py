"""An interrupted training, started again, ends with the bytes of an uninterrupted one."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.metrics_sink import NullSink


class Interruption(Exception):
    pass


class InterruptingSink(NullSink):
    """Raises when a step is reported: in the middle of the training loop, as a failing tracking server would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def log(self, metrics, *, step: int) -> None:
        if step >= self._step:
            raise Interruption(step)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def train(call, sink=None, **changes):
    from models.training.fusion import train_fusion

    return train_fusion(sink=sink or NullSink(), log_every=1, **{**call, **changes})


def stop_at(call, step: int) -> None:
    with pytest.raises(Interruption):
        train(call, InterruptingSink(step))
    assert not (call["out"] / "model").exists()


# 12 steps, the switch after the 6th. A checkpoint every 4 steps: stop before the first, in each phase, and just after the switch.
EVERY_4 = {"checkpoints": {"every_steps": 4}}


@pytest.fixture(scope="module")
def whole(request):
    return {}


@pytest.mark.parametrize("switch", ["keep", "restart"])
def test_resumed_equals_uninterrupted(fusion_call, switch):
    params = EVERY_4 | {"optimiser_at_switch": switch}
    whole = fusion_call("whole", **params)
    record = train(whole)
    assert record.total_steps == 12 and record.phases[0].last_step == 6
    expected = files(whole["out"])
    assert {"model/model.safetensors", "phase-1/model.safetensors", "record.json"} <= expected.keys()

    broken = fusion_call("broken", **params)
    for step in (3, 6, 7, 11):
        stop_at(broken, step)
        assert sorted(p.name for p in broken["resume_dir"].glob("checkpoint-*")) == {
            3: [],
            6: ["checkpoint-4"],
            7: ["checkpoint-4"],
            11: ["checkpoint-4", "checkpoint-8"],
        }[step]
    assert train(broken) == record
    assert files(broken["out"]) == expected
