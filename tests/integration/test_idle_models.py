"""Workers of a task runner hold no unused model: what one has loaded is released before a long step in another ends."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner

from models.lm.resolve import resolve_source
from models.lm.source_file import write_source
from models.params.runtime import Runtime
from models.params.sources import SourceSpec
from tasks import loaded_models
from tasks.artifact import Artifact
from tasks.caching import Work, step


@step("ask")
def ask(folder: str, index: int, *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    """Use a source, and report whether it was found in memory."""
    found = len(loaded_models.POOL)
    with loaded_models.source_in_use(Path(folder), runtime=runtime) as loaded:
        (work.out / "answer").write_text(f"{index} {loaded.source.name}")
    return {"found": found, "kept": len(loaded_models.POOL)}


@step("train")
def train(*, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    """Stand for a step that wants the memory: wait for the worker's models to leave, at most a minute."""
    deadline = time.monotonic() + 60
    while len(loaded_models.POOL) and time.monotonic() < deadline:
        time.sleep(0.05)
    (work.out / "answer").write_text("trained")
    return {"left": len(loaded_models.POOL)}


@pytest.mark.parametrize("keep_s", [1.0, 600.0])
def test_a_worker_of_the_process_runner_keeps_a_source_for_the_next_shard_and_then_lets_it_go(
    project: Path, pico_folder: Any, keep_s: float
) -> None:
    (project / "llama").mkdir()
    spec = SourceSpec(name="llama", model=str(pico_folder("llama")), chat_template="plain")
    write_source(project / "llama", resolve_source(spec, root=project))
    runtime = Runtime(device="cpu", keep_models_s=keep_s, workers=1, task_runner="process")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def body() -> list[Artifact]:
        asked = [ask.submit(folder=str(project / "llama"), index=i, runtime=runtime).result() for i in range(2)]
        return [*asked, train.submit(runtime=runtime).result()] if keep_s < 60 else asked

    first, second, *trained = body()
    assert (first.meta["found"], first.meta["kept"], second.meta["kept"]) == (0, 1, 1)
    if keep_s > 60:
        assert second.meta["found"] == 1, "the next shard finds it loaded"
    else:
        assert trained[0].meta["left"] == 0
