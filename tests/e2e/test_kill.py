"""SIGKILL in the middle of work: what was finished stays, the same command goes on, and the bytes are those of a calm run."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import Sandbox, together

PATIENCE_S = 120


def kill_when(project: Sandbox, *words: str, reached: Callable[[], bool]) -> None:
    """Start `python -m flows …` and kill its process group as soon as `reached` says so."""
    process = project.start(*words)
    deadline = time.monotonic() + PATIENCE_S
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_killed_teach_keeps_its_shards(project: Sandbox, smoke: Sandbox) -> None:
    project.forget("teach", "fuse", "evaluate_fusion", "report")
    kill_when(project, "run", "teach", reached=lambda: len(project.records()) >= 4)
    finished = project.records()
    assert finished and not project.out("teach").exists(), "outputs appear when they are complete"

    project.must("run", "teach")
    now = project.records()
    assert {key: now[key] for key in finished} == finished, "a finished shard must not be computed again"
    taught = [key for key, record in smoke.records().items() if key in now]
    assert len(taught) == len(now) > len(finished)
    assert project.manifests("teach") == smoke.manifests("teach")


def test_killed_fuse_goes_on_from_its_checkpoint(smoke: Sandbox, tmp_path: Path) -> None:
    calm, killed = smoke.copy(tmp_path / "calm"), smoke.copy(tmp_path / "killed")
    settings = ("fusion.epochs=6", "fusion.checkpoints.every_steps=1")
    command = ("run", "fuse", "--method", "profuser", *(word for s in settings for word in ("-S", s)))

    def checkpoints() -> list[int]:
        found = (killed.root / ".cache" / "work").glob("*/resume/checkpoints/checkpoint-*")
        return sorted(int(path.name.removeprefix("checkpoint-")) for path in found)

    together(lambda: calm.must(*command), lambda: kill_when(killed, *command, reached=lambda: max(checkpoints(), default=0) >= 3))
    kept = checkpoints()
    assert killed.manifests("fuse") == smoke.manifests("fuse"), "the earlier outputs stay until there are new ones"

    done = killed.must(*command)
    resumed = re.search(r"Going on from `checkpoint-(\d+)` of (\d+) steps", done.err)
    assert resumed, done.err
    assert int(resumed[1]) == max(kept) < int(resumed[2]) == 18
    (history,) = killed.out("fuse", "profuser").glob("*/history.jsonl")
    assert len(history.read_text(encoding="utf-8").splitlines()) == 18, "the curve must have every step once"
    assert (killed.fused("profuser") / "model.safetensors").read_bytes() == (
        calm.fused("profuser") / "model.safetensors"
    ).read_bytes()
    assert killed.manifests("fuse", "profuser") == calm.manifests("fuse", "profuser") != smoke.manifests("fuse", "profuser")
    assert not any((killed.root / ".cache" / "work").iterdir()), "nothing half-done is left"
