"""Shards of several folders as one store."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from models.errors import SignalError
from models.fusion.signals import shard
from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.signals.shard import link_shards, write_shard
from models.fusion.signals.store import SignalStore

SPEC = SignalSpec("s", "m", "t", "c", "d", top_k=1, vocab_size=9, kind="ground_truth")


def write(folder: Path, index: int, id_: str) -> Path:
    two = np.array([1, 2])
    column, logprobs = two.astype(np.uint32), -two.astype(np.float16)
    sample = SampleSignals(id_, column, column[:, None], logprobs[:, None], logprobs, two.astype(np.float32))
    return write_shard(folder, index, SPEC, [sample])


def test_shards_are_linked_in_the_order_given(tmp_path):
    first = write(tmp_path / "a", 0, "x")
    write(tmp_path / "b", 4, "y")
    write(tmp_path / "b", 7, "z")
    folder = link_shards([tmp_path / "b", tmp_path / "a"], tmp_path / "all")
    assert tuple(SignalStore.open(folder).ids) == ("y", "z", "x")
    assert (folder / "shard-00002.safetensors").samefile(first)


def test_linking_again_drops_what_lay_there(tmp_path):
    for name in "abc":
        write(tmp_path / name, 0, name)
    link_shards([tmp_path / n for n in "abc"], tmp_path / "all")
    assert tuple(SignalStore.open(link_shards([tmp_path / "c"], tmp_path / "all")).ids) == ("c",)
    assert tuple(SignalStore.open(tmp_path / "a").ids) == ("a",)


def test_file_systems_without_links_get_copies(tmp_path, monkeypatch):
    source = write(tmp_path / "a", 0, "x")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(shard.os, "link", refuse)
    folder = link_shards([tmp_path / "a"], tmp_path / "all")
    assert tuple(SignalStore.open(folder).ids) == ("x",)
    assert not (folder / source.name).samefile(source)


def test_folder_without_shards_and_missing_ids_are_refused(tmp_path):
    with pytest.raises(SignalError, match=r"nowhere` must hold at least one complete shard"):
        link_shards([tmp_path / "nowhere"], tmp_path / "all")
    write(tmp_path / "a", 0, "x").with_suffix(".json").unlink()
    with pytest.raises(SignalError, match=r"shard-00000\.json` is missing"):
        link_shards([tmp_path / "a"], tmp_path / "all")
