"""Which models are in memory: tracked by weak references, so that a leaked one shows."""

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import SourceError
from models.lm import loading
from models.lm.resolve import resolve_source
from models.lm.source_file import write_source
from models.params.runtime import Runtime
from models.params.sources import SourceSpec
from models.params.teach import ScorerSpec
from tasks import backends, loaded_models
from tasks.loaded_models import ModelPool


class Model:
    """Refers to itself, as models with hooks do: only the garbage collector frees it."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device, self.me = name, device, self


class Loads:
    """Loads models and counts those alive, at most at any load."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Model]] = []
        self.most = 0

    def of(self, name: str) -> Callable[[str], Model]:
        def load(device: str) -> Model:
            model = Model(name, device)
            self.made.append(weakref.ref(model))
            self.most = max(self.most, self.alive)
            return model

        return load

    @property
    def alive(self) -> int:
        return sum(ref() is not None for ref in self.made)


@pytest.fixture
def loads() -> Loads:
    return Loads()


def use(pool: ModelPool, loads: Loads, name: str, devices: tuple[str, ...] = ("cpu",)) -> str:
    with pool.using(name, loads.of(name), devices=devices) as model:
        assert model.name == name
        return model.device


def test_shards_of_one_source_share_a_load_and_the_next_source_takes_its_place(loads):
    pool = ModelPool()
    for name in ("a", "a", "a", "b", "b", "rm", "a"):
        use(pool, loads, name)
    assert (len(loads.made), loads.most, loads.alive, len(pool)) == (4, 1, 1, 1)
    pool.release()
    assert loads.alive == len(pool) == 0


def test_a_model_in_use_is_neither_released_nor_replaced(loads):
    pool = ModelPool()
    with pool.using("a", loads.of("a"), devices=("cpu",)) as model:
        pool.release()
        use(pool, loads, "b")
        with pool.using("a", loads.of("a"), devices=("cpu",)) as same:
            assert same is model
    assert (len(loads.made), loads.most) == (2, 2)
    del model, same
    pool.release()
    assert loads.alive == 0


def test_a_load_that_fails_leaves_nothing_behind(loads):
    pool = ModelPool()

    def fail(device: str) -> Model:
        raise OSError(device)

    use(pool, loads, "a")
    with pytest.raises(OSError, match="cpu"), pool.using("b", fail, devices=("cpu",)):
        pass
    gc.collect()
    assert len(pool) == loads.alive == 0
    assert use(pool, loads, "a") == "cpu"


def test_several_devices_hold_one_model_each(loads):
    pool, devices = ModelPool(), ("cuda:0", "cuda:1")
    with pool.using("a", loads.of("a"), devices=devices) as first, pool.using("a", loads.of("a"), devices=devices) as second:
        assert [first.device, second.device] == ["cuda:0", "cuda:1"]
    del first, second
    with pool.using("b", loads.of("b"), devices=devices) as other:
        assert use(pool, loads, "a", devices) != other.device  # it lies idle there: no load
    del other
    assert (len(loads.made), loads.alive, len(pool)) == (3, 2, 2)
    pool.release()
    assert loads.alive == 0


def test_a_call_waits_while_every_device_is_taken(loads):
    pool, devices = ModelPool(), ("cuda:0", "cuda:1")
    inside = threading.Barrier(3, timeout=10)
    leave = threading.Event()

    def work(name: str) -> None:
        with pool.using(name, loads.of(name), devices=devices):
            inside.wait()
            leave.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    inside.wait()
    late = threading.Thread(target=use, args=(pool, loads, "c", devices))
    late.start()
    late.join(0.1)
    assert late.is_alive() and len(loads.made) == 2
    leave.set()
    for thread in (*threads, late):
        thread.join(10)
    assert len(loads.made) == 3 and len(pool) == 2 and loads.most <= 2


def gone(pool: ModelPool) -> bool:
    """Wait until the pool is empty."""
    deadline = time.monotonic() + 30
    while len(pool) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not len(pool)


def test_an_idle_model_is_released_when_its_time_is_over(loads):
    pool = ModelPool()
    with pool.using("a", loads.of("a"), devices=("cpu",), keep_s=0.05):
        time.sleep(0.2)
        assert len(pool) == 1, "not while it is in use"
    assert gone(pool) and loads.alive == 0


def test_a_use_in_time_finds_the_model_and_restarts_its_time(loads):
    pool = ModelPool()
    for _ in range(3):
        with pool.using("a", loads.of("a"), devices=("cpu",), keep_s=600):
            pass
        waiting = pool._held["a", "cpu"].leaving
    with pool.using("a", loads.of("a"), devices=("cpu",)):
        assert waiting.finished.is_set() and pool._held["a", "cpu"].leaving is None, "a model in use is not about to leave"
    assert (len(loads.made), len(pool)) == (1, 1)
    pool.release()
    gc.collect()  # the pool's own collection does nothing while another thread collects
    assert loads.alive == 0


Folders = Callable[..., Path]
CPU = Runtime(device="cpu")


@pytest.fixture(autouse=True)
def empty_pool():
    loaded_models.release_models()  # another test may have left one
    yield
    loaded_models.release_models()
    assert len(loaded_models.POOL) == 0


class SourceModel:
    """Something that weak references can point at."""


def source(folder: Path, place: Path) -> Path:
    """Write the record of a model folder into a place, as the stage `sources` does."""
    spec = SourceSpec(name="owl", model=str(folder), chat_template="plain")
    place.mkdir()
    write_source(place, resolve_source(spec, root=Path()))
    return place


def test_a_source_is_loaded_once_and_released_at_the_end(pico_folder: Folders, tmp_path: Path, monkeypatch: Any) -> None:
    place, loads = source(pico_folder("llama"), tmp_path / "s"), []
    real = loading.load_source
    monkeypatch.setattr(loading, "load_source", lambda *args, **named: loads.append(1) or real(*args, **named))
    for _ in range(3):
        with loaded_models.source_in_use(place, runtime=CPU) as loaded:
            model = weakref.ref(loaded.model)
    del loaded
    assert len(loads) == 1 and model() is not None
    loaded_models.release_models()
    assert model() is None


def test_a_tokenizer_is_loaded_once_and_stays_until_the_models_are_released(
    pico_folder: Folders, tmp_path: Path, monkeypatch: Any
) -> None:
    place = tmp_path / "source"
    write_source(
        place, resolve_source(SourceSpec(name="owl", model=str(pico_folder("llama")), chat_template="plain"), root=Path())
    )
    loads: list[str] = []
    real = loading.load_codec
    monkeypatch.setattr(loading, "load_codec", lambda source: loads.append(source.name) or real(source))
    first, second = (loaded_models.codec_in_use(loaded_models.source_record(place)) for _ in range(2))
    assert first is second and loads == ["owl"]
    kept = weakref.ref(first)
    del first, second
    loaded_models.release_models()
    gc.collect()
    assert kept() is None, "what comes next needs the memory"


def test_judges_are_in_memory_one_at_a_time_and_only_while_they_judge(monkeypatch: Any) -> None:
    alive: list[weakref.ref[Any]] = []

    def count() -> int:
        gc.collect()
        return sum(ref() is not None for ref in alive)

    def load(record: Any, *, device: str) -> SimpleNamespace:
        model = SourceModel()
        alive.append(weakref.ref(model))
        return model

    seen: list[int] = []
    monkeypatch.setattr(backends, "load_reward_model", load)
    monkeypatch.setattr(backends, "check_unchanged", lambda record: None)
    monkeypatch.setattr(backends, "source_record", lambda p: SimpleNamespace(digest=str(p), location=str(p), name=str(p)))
    monkeypatch.setattr(backends, "reward_scores", lambda model, items, **_: seen.append(count()) or [0.0])
    names = ("skywork", "fsfairx", "deberta")
    opened = [
        backends.open_judge(ScorerSpec(kind="reward_model", name=name), Path(name), batch_size=4, runtime=CPU) for name in names
    ]
    assert alive == []
    for judge in opened:
        judge([], [], lambda _: None)
    assert (len(alive), seen, count()) == (3, [1, 1, 1], 1)
    loaded_models.release_models()
    assert count() == 0


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "modeling_own.py"])
def test_replaced_files_are_refused_until_they_are_put_back(
    pico_folder: Folders, tmp_path: Path, name: str, same_time: bool
) -> None:
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    (folder / "modeling_own.py").write_text("# own\n")
    place = source(folder, tmp_path / "s")
    with loaded_models.source_in_use(place, runtime=CPU):
        pass
    loaded_models.release_models()
    file = folder / name
    content, stat = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the same size
    if same_time:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with (
        pytest.raises(SourceError, match=r"The files of source `owl` in .* must have the digest .*: they changed after"),
        loaded_models.source_in_use(place, runtime=CPU),
    ):
        pass
    file.write_bytes(content)
    with loaded_models.source_in_use(place, runtime=CPU) as loaded:
        assert loaded.source.name == "owl"


def test_files_replaced_while_they_are_read_are_noticed(pico_folder: Folders, tmp_path: Path, monkeypatch: Any) -> None:
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    place = source(folder, tmp_path / "s")
    real = loading.load_source

    def load(*args: Any, **named: Any) -> Any:
        loaded = real(*args, **named)
        with (folder / "model.safetensors").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x7f")
        return loaded

    monkeypatch.setattr(loading, "load_source", load)
    with pytest.raises(SourceError, match="they changed after"), loaded_models.source_in_use(place, runtime=CPU):
        pass
    assert len(loaded_models.POOL) == 0
