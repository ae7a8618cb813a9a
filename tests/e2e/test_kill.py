"""SIGKILL in the middle of work: finished steps stay, the same command goes on, and ends with an uninterrupted run's bytes."""

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox import Done, Record, Sandbox

TEACH = ("run", "teach")
SETTINGS = ("fusion.epochs=6", "fusion.checkpoints.every_steps=1")
FUSE = ("run", "fuse", "--method", "profuser", *(word for s in SETTINGS for word in ("-S", s)))
STEPS = 18  # 48 prompts, 16 a step, 6 epochs
PATIENCE_S = 480  # an uninterrupted run needs half a minute


@dataclass(frozen=True, slots=True)
class Resumed:
    """A project after a kill and a second run of the same command.

    Attributes:
        project: As it is at the end.
        finished: Steps that were finished when it was killed.
        checkpoints: Checkpoints that were complete then.
        outputs: Manifests of the stage's outputs then.
        done: The second run.
    """

    project: Sandbox
    finished: Mapping[str, Record]
    checkpoints: list[int]
    outputs: Mapping[str, str]
    done: Done


def kill_when(project: Sandbox, *words: str, reached: Callable[[], bool]) -> None:
    """Start `python -m flows …` and kill its process group as soon as `reached` is true, while it still is.

    On a busy machine the command may have moved on before this process is scheduled. So it is stopped, checked once more, and
    killed only if the state still holds: a late kill must not look like a failed resume.
    """
    process = project.start(*words)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not reached():
            assert process.poll() is None, f"{words} ended with {process.returncode} before it could be killed"
            assert time.monotonic() < deadline, f"{words} did not reach the state in {PATIENCE_S} s"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGSTOP)
        assert reached(), f"{words} had left the state it should be killed in"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        ended = process.wait()
    assert ended == -signal.SIGKILL, "it ended before it could be killed"


def checkpoints(project: Sandbox) -> list[int]:
    found = (project.root / ".cache" / "work").glob("*/resume/checkpoints/checkpoint-*")
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in found)


def tracked_steps(project: Sandbox) -> list[set[int]]:
    """Return the steps of the loss in each MLflow run that has one."""
    steps: dict[str, set[int]] = {}
    with sqlite3.connect(project.root / "mlflow.db") as database:
        for run, step in database.execute("SELECT run_uuid, step FROM metrics WHERE key = 'train/loss'"):
            steps.setdefault(run, set()).add(step)
    return list(steps.values())


def killed_teach(project: Sandbox) -> Resumed:
    project.forget("teach", "fuse", "evaluate_fusion", "report")
    kill_when(project, *TEACH, reached=lambda: len(project.records()) >= 4)
    finished, outputs = project.records(), project.manifests("teach")
    return Resumed(project, finished, [], outputs, project.must(*TEACH))


def killed_fuse(project: Sandbox) -> Resumed:
    kill_when(project, *FUSE, reached=lambda: max(checkpoints(project), default=0) >= 3)
    kept, outputs = checkpoints(project), project.manifests("fuse")
    return Resumed(project, project.records(), kept, outputs, project.must(*FUSE))


def uninterrupted_fuse(project: Sandbox) -> Sandbox:
    project.must(*FUSE)
    return project


SCENARIOS = {"killed teach": killed_teach, "killed fuse": killed_fuse, "uninterrupted fuse": uninterrupted_fuse}


def test_killed_teach_keeps_its_shards(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    resumed: Resumed = outcome("killed teach")
    assert resumed.finished and resumed.outputs == {}, "outputs appear when they are complete"
    now = resumed.project.records()
    assert {key: now[key] for key in resumed.finished} == resumed.finished, "a finished shard must not be computed again"
    assert len(resumed.finished) < len(now) and now.keys() <= smoke.records().keys()
    assert resumed.project.manifests("teach") == smoke.manifests("teach")


def test_killed_fuse_goes_on_from_its_checkpoint(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    resumed: Resumed = outcome("killed fuse")
    assert resumed.outputs == smoke.manifests("fuse"), "the earlier outputs stay until there are new ones"
    log = re.search(r"Resuming from `checkpoint-(\d+)` of (\d+) steps", resumed.done.err)
    assert log, resumed.done.err
    assert int(log[1]) == max(resumed.checkpoints) < int(log[2]) == STEPS
    (history,) = resumed.project.out("fuse", "profuser").glob("*/history.jsonl")
    assert len(history.read_text(encoding="utf-8").splitlines()) == STEPS, "the curve must have every step once"
    assert set(range(1, STEPS + 1)) in tracked_steps(resumed.project), "so must the one in MLflow"
    assert not any((resumed.project.root / ".cache" / "work").iterdir()), "nothing half-done is left"


def test_killed_fuse_ends_with_the_bytes_of_an_uninterrupted_one(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    whole, resumed = outcome("uninterrupted fuse"), outcome("killed fuse")
    weights = [project.fused("profuser") / "model.safetensors" for project in (whole, resumed.project, smoke)]
    assert weights[0].read_bytes() == weights[1].read_bytes() != weights[2].read_bytes()
    assert whole.manifests("fuse", "profuser") == resumed.project.manifests("fuse", "profuser")
