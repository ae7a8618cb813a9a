"""Several devices, one process: calls side by side, each model on a device of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from flows import parallel
from flows.parallel import device_lanes, gather
from models.lm.loading import pick_devices
from models.params.runtime import Runtime
from tasks.loaded_models import ModelPool


@pytest.fixture
def four_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_devices")
def test_auto_and_cuda_are_all_devices_and_a_named_one_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("auto", "cuda"):
        assert pick_devices(device) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
        assert device_lanes(Runtime(device=device)) == 4
    assert pick_devices("cpu") == ["cpu"] and device_lanes(Runtime(device="cpu")) == 1
    assert device_lanes(Runtime(device="cuda:1")) == device_lanes(Runtime(device="auto", task_runner="process")) == 1


def test_without_a_gpu_nothing_changes() -> None:
    assert pick_devices("cpu") == ["cpu"] and device_lanes(Runtime(device="cpu")) == 1


class Runner(ThreadPoolExecutor):
    """Prefect's runner of threads, without its server."""

    def submit(self, call: Any, parameters: dict[str, Any]) -> Any:  # type: ignore[override]
        return super().submit(call, **parameters)


def test_lanes_work_at_the_same_time_on_different_devices_and_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, together = ModelPool(), threading.Barrier(2, timeout=20)
    monkeypatch.setattr(parallel, "ThreadPoolTaskRunner", Runner)

    def shard(index: int) -> Any:
        with pool.using("owl", lambda device: f"model on {device}", devices=("cuda:0", "cuda:1")) as model:
            together.wait()
            return index, model

    calls: list[Any] = [(shard, {"index": i}) for i in range(4)]
    made: list[Any] = gather(calls, runtime=Runtime(), lanes=2)
    assert [index for index, _ in made] == [0, 1, 2, 3]
    assert {model for _, model in made} == {"model on cuda:0", "model on cuda:1"} and len(pool) == 2
