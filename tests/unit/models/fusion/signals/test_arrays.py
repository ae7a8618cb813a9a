"""Rows of several files: mapped or not, from another process, and files that shrink."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from models.errors import SignalError
from models.fusion.signals.arrays import RowReader, TensorHeader, encode_safetensors, publish

NAMES = ["wide", "flat"]


def headers(folder: Path, *, files: int) -> list[TensorHeader]:
    paths = [folder / f"{i}.safetensors" for i in range(files)]
    for i, path in enumerate(paths):
        rows = np.arange(5, dtype=np.uint32) + 10 * i
        publish({path: encode_safetensors({"flat": rows, "wide": np.stack([rows, rows], 1).astype(np.float16)}, {})})
    return [TensorHeader(path) for path in paths]


def flat(reader: RowReader, runs) -> list[list[int]]:
    wide, rows = reader.read(runs, NAMES)
    values = [np.frombuffer(part, np.uint32).tolist() for part in rows]
    assert [np.frombuffer(part, np.float16).reshape(-1, 2)[:, 0].astype(int).tolist() for part in wide] == values
    return values


@pytest.mark.parametrize("max_maps", [0, 1, 3, 8])
def test_rows_come_in_order_whatever_is_mapped(tmp_path, max_maps):
    reader = RowReader(headers(tmp_path, files=4), max_maps=max_maps)
    for _ in range(2):
        assert flat(reader, [(2, 1, 3), (0, 0, 5), (3, 4, 4), (2, 0, 1)]) == [[21, 22], [0, 1, 2, 3, 4], [], [20]]
    assert len(reader._files) == min(max_maps, 3)
    assert reader.read([], NAMES) == [[], []]


def test_a_copy_in_another_process_opens_its_own_maps(tmp_path):
    reader = RowReader(headers(tmp_path, files=2), max_maps=1)
    flat(reader, [(0, 0, 1)])
    copy = pickle.loads(pickle.dumps(reader))
    assert len(copy._files) == 0
    assert flat(copy, [(1, 2, 3), (0, 4, 5)]) == [[12], [4]]


def test_a_file_that_shrank_is_refused(tmp_path):
    reader = RowReader(headers(tmp_path, files=1), max_maps=0)
    path = tmp_path / "0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SignalError, match=r"0\.safetensors` ends before its row 5"):
        reader.read([(0, 3, 5)], NAMES)


def test_a_file_that_shrank_before_it_was_mapped_is_refused(tmp_path):
    made = headers(tmp_path, files=2)
    reader = RowReader(made, max_maps=2)
    made[1].path.unlink()
    made[1].path.write_bytes(b"short")
    assert flat(reader, [(0, 0, 2)]) == [[0, 1]]
    with pytest.raises(SignalError, match=r"1\.safetensors.*has 5: it changed while it was open"):
        reader.read([(1, 0, 5)], NAMES)
    assert len(reader._files) == 1
