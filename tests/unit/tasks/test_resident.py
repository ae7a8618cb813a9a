"""Sources and judges in memory: loaded once a stage, gone when it is over, refused when their files were replaced."""

import gc
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import SourceError
from models.generation import loading
from models.generation.resolve import resolve_source
from models.generation.source_file import write_source
from models.params.runtime import Runtime
from models.params.sources import SourceSpec
from models.params.teach import ScorerSpec
from tasks import judges, resident

Folders = Callable[..., Path]
CPU = Runtime(device="cpu")


@pytest.fixture(autouse=True)
def empty_pool():
    resident.release_models()  # another test may have left one
    yield
    resident.release_models()
    assert len(resident.POOL) == 0


class Model:
    """Something that weak references can point at."""


def source(folder: Path, place: Path) -> Path:
    """Write the record of a model folder into a place, as the stage `sources` does."""
    spec = SourceSpec(name="owl", model=str(folder), chat_template="plain")
    place.mkdir()
    write_source(place, resolve_source(spec, root=Path()))
    return place


def test_a_source_is_loaded_once_and_leaves_at_the_end(pico_folder: Folders, tmp_path: Path, monkeypatch: Any) -> None:
    place, loads = source(pico_folder("llama"), tmp_path / "s"), []
    real = loading.load_source
    monkeypatch.setattr(loading, "load_source", lambda *args, **named: loads.append(1) or real(*args, **named))
    for _ in range(3):
        with resident.source_in_use(place, runtime=CPU) as loaded:
            model = weakref.ref(loaded.model)
    del loaded
    assert len(loads) == 1 and model() is not None
    resident.release_models()
    assert model() is None


def test_judges_are_in_memory_one_at_a_time_and_only_while_they_judge(monkeypatch: Any) -> None:
    alive: list[weakref.ref[Any]] = []

    def count() -> int:
        gc.collect()
        return sum(ref() is not None for ref in alive)

    def load(record: Any, *, device: str) -> SimpleNamespace:
        model = Model()
        alive.append(weakref.ref(model))
        return model

    seen: list[int] = []
    monkeypatch.setattr(judges, "load_reward_model", load)
    monkeypatch.setattr(judges, "check_unchanged", lambda record: None)
    monkeypatch.setattr(judges, "source_record", lambda p: SimpleNamespace(digest=str(p), location=str(p), name=str(p)))
    monkeypatch.setattr(judges, "reward_scores", lambda model, items, **_: seen.append(count()) or [0.0])
    names = ("skywork", "fsfairx", "deberta")
    opened = [
        judges.open_judge(ScorerSpec(kind="reward_model", name=name), Path(name), batch_size=4, runtime=CPU) for name in names
    ]
    assert alive == []
    for judge in opened:
        judge([], [], lambda _: None)
    assert (len(alive), seen, count()) == (3, [1, 1, 1], 1)
    resident.release_models()
    assert count() == 0


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "modeling_own.py"])
def test_replaced_files_are_refused_until_they_are_put_back(
    pico_folder: Folders, tmp_path: Path, name: str, same_time: bool
) -> None:
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    (folder / "modeling_own.py").write_text("# own\n")
    place = source(folder, tmp_path / "s")
    with resident.source_in_use(place, runtime=CPU):
        pass
    resident.release_models()
    file = folder / name
    content, stat = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the same size
    if same_time:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with (
        pytest.raises(SourceError, match=r"The files of source `owl` in .* must have the digest .*: they changed after"),
        resident.source_in_use(place, runtime=CPU),
    ):
        pass
    file.write_bytes(content)
    with resident.source_in_use(place, runtime=CPU) as loaded:
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
    with pytest.raises(SourceError, match="they changed after"), resident.source_in_use(place, runtime=CPU):
        pass
    assert len(resident.POOL) == 0
