"""Several devices in one flow run, under Prefect's own threads: what runs where, in which order, and how an error ends it."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.parallel import Call, gather
from models.errors import SourceError
from models.lm import loading
from models.lm.resolve import resolve_source
from models.lm.source_file import write_source
from models.params.runtime import Runtime
from models.params.sources import SourceSpec
from tasks import loaded_models
from tasks.artifact import Artifact
from tasks.caching import Work, step

DEVICES = ["cpu", "cpu:0"]  # two names of one processor
met = threading.Barrier(2, timeout=60)
running: list[str] = []


@step("ask")
def ask(folder: str, index: int, *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    """Use a source; the calls of the two lanes meet two by two, so that they are certainly in use at the same time."""
    with loaded_models.source_in_use(Path(folder), runtime=runtime) as loaded:
        place = next(at for (_, at), held in loaded_models.POOL._held.items() if held.model is loaded)
        assert all(weight.device.type == "cpu" for weight in loaded.model.parameters())
        running.append(place)
        met.wait()
        assert len(set(running)) == len(running) == 2, "each device has one call"
        met.wait()
        running.remove(place)
        met.wait()
        (work.out / "answer").write_text(f"{index} {loaded.source.name} {place}")
    return {"index": index, "device": place}


@step("fail")
def fail(index: int, *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    if index == 1:
        raise SourceError("the second is broken")
    (work.out / "answer").write_text(str(index))
    started.append(index)
    return {"index": index}


started: list[int] = []


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(loading, "pick_devices", lambda device: DEVICES)
    running.clear()
    started.clear()
    yield
    loaded_models.release_models()
    assert len(loaded_models.POOL) == 0


@pytest.mark.usefixtures("two_devices")
def test_calls_of_two_sources_run_on_two_devices_in_order(project: Path, pico_folder: Any) -> None:
    folders = []
    for name in ("llama", "mistral"):
        (project / name).mkdir()
        spec = SourceSpec(name=name, model=str(pico_folder(name)), chat_template="plain")
        write_source(project / name, resolve_source(spec, root=project))
        folders.append(str(project / name))
    runtime = Runtime(device="cpu")
    calls: list[Call] = [(ask, {"folder": folders[i // 4], "index": i, "runtime": runtime}) for i in range(8)]

    @flow
    def lesson() -> list[Artifact]:
        return gather(calls, runtime=runtime, lanes=2)

    made = lesson()
    assert [artifact.meta["index"] for artifact in made] == list(range(8))
    assert sorted(artifact.meta["device"] for artifact in made) == ["cpu"] * 4 + ["cpu:0"] * 4
    assert lesson() == made, "a second run is served from the cache: the barrier would not open for one call alone"


@pytest.mark.usefixtures("two_devices")
def test_an_error_in_one_lane_ends_the_flow_and_nothing_else_starts(project: Path) -> None:
    calls: list[Call] = [(fail, {"index": i, "runtime": Runtime()}) for i in range(40)]

    @flow
    def lesson() -> list[Artifact]:
        return gather(calls, runtime=Runtime(), lanes=2)

    before = threading.active_count()
    with pytest.raises(SourceError, match="the second is broken"):
        lesson()
    assert started[0] == 0 and len(started) < 39, "calls in the queue are given up"
    assert sum("ThreadPoolExecutor" in t.name for t in threading.enumerate()) <= before
    done = list(started)
    with pytest.raises(SourceError, match="the second is broken"):
        lesson()
    assert not set(done) & set(started[len(done) :]), "what was finished is served from the cache"
