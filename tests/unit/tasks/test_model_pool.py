"""Which models stand in memory: held by weak references, so that a forgotten one shows."""

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from tasks.model_pool import ModelPool


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


def test_what_is_in_use_is_neither_released_nor_replaced(loads):
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


def test_who_finds_every_device_taken_waits(loads):
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


def test_an_idle_model_leaves_when_its_time_is_over(loads):
    pool = ModelPool()
    with pool.using("a", loads.of("a"), devices=("cpu",), keep_s=0.05):
        time.sleep(0.2)
        assert len(pool) == 1, "not while it is in use"
    assert gone(pool) and loads.alive == 0


def test_who_comes_in_time_finds_it_and_its_time_begins_anew(loads):
    pool = ModelPool()
    for _ in range(3):
        with pool.using("a", loads.of("a"), devices=("cpu",), keep_s=600):
            pass
        waiting = pool._held["a", "cpu"].leaving
    with pool.using("a", loads.of("a"), devices=("cpu",)):
        assert waiting.finished.is_set() and pool._held["a", "cpu"].leaving is None, "a model in use is not about to leave"
    assert (len(loads.made), len(pool)) == (1, 1)
    pool.release()
    assert loads.alive == 0
