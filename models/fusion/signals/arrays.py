"""safetensors files of numpy arrays: atomic, byte-reproducible writing, and reading of row ranges through memory maps."""

import json
import math
import mmap
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import SignalError
from models.files import replacing

Array = npt.NDArray[np.generic]

_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_NAMES: Mapping[np.dtype[np.generic], str] = {dtype: name for name, dtype in _DTYPES.items()}
_HEADER_LIMIT = 100_000_000  # the limit of the reference implementation
_CURE = "Delete it and run the stage again: complete shards are kept."


def encode_safetensors(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """Return the parts of a safetensors file, in order; the same input gives the same bytes in every process."""
    # Widest items first keeps every tensor aligned to its item size, so that a map can be viewed without copying.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    parts: list[bytes | memoryview] = []
    offset = 0
    for name in order:
        array = np.ascontiguousarray(tensors[name])
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
        parts.append(array.tobytes() if array.nbytes == 0 else array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *parts]


def publish(files: Mapping[Path, Sequence[bytes | memoryview]]) -> None:
    """Write files of one folder so that the last of them exists only when all are complete and on the disk.

    Each is written to a temporary file, synced to disk and renamed, in the given order; an existing last file is removed first,
    so that old and new never mix. On an OSError no partial file is left.

    Raises:
        SignalError: The disk is full, or the folder cannot be written; names the file and the bytes wanted.
    """
    last = list(files)[-1]
    wanted = sum(len(part) for parts in files.values() for part in parts)
    try:
        with ExitStack() as stack:
            for path, parts in reversed(list(files.items())):  # context managers exit in reverse order
                with stack.enter_context(replacing(path)).open("wb") as file:
                    file.writelines(parts)
                    file.flush()
                    os.fsync(file.fileno())
            last.unlink(missing_ok=True)
        _sync_folder(last.parent)
    except OSError as err:
        raise SignalError(
            f"`{last}` cannot be written ({wanted} bytes wanted): {err.strerror or err}. "
            "Free space or correct the folder's permissions, then run the stage again: complete shards are kept."
        ) from err


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class TensorHeader:
    """The parsed header of one safetensors file.

    Attributes:
        path: The file.
        metadata: Its string metadata.
        num_bytes: Size of the whole file.
    """

    __slots__ = ("_entries", "_start", "metadata", "num_bytes", "path")

    def __init__(self, path: Path) -> None:
        """Read and check the header.

        Raises:
            SignalError: The file is truncated (names it, with expected and found bytes) or is not a safetensors file.
        """
        self.path = path
        found = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= _HEADER_LIMIT else b""
        if found < 8 or length > _HEADER_LIMIT:
            raise SignalError(f"`{path}` must be a safetensors file, but its {found} bytes have no header. {_CURE}")
        if len(text) < length:
            raise SignalError(f"`{path}` must have at least {8 + length} bytes, but has {found} (truncated). {_CURE}")
        try:
            header = json.loads(text)
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            self._entries = {name: self._entry(entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise SignalError(f"`{path}` must be a safetensors file, but its header cannot be read ({err!r}). {_CURE}") from err
        self._start = 8 + length
        self.num_bytes = self._start + max((stop for _, _, _, stop in self._entries.values()), default=0)
        if found != self.num_bytes:
            raise SignalError(f"`{path}` must have {self.num_bytes} bytes, but has {found} (truncated or damaged). {_CURE}")

    @staticmethod
    def _entry(entry: Mapping[str, Any]) -> tuple[np.dtype[np.generic], tuple[int, ...], int, int]:
        dtype = _DTYPES[entry["dtype"]]
        shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
        if stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"shape {shape} of {dtype} does not take {stop - start} bytes")
        return dtype, shape, start, stop

    def places(self) -> dict[str, tuple[int, int]]:
        """Return for each tensor the byte of the file where it begins, and the bytes of one of its rows."""
        return {
            name: (self._start + start, dtype.itemsize * math.prod(shape[1:]))
            for name, (dtype, shape, start, _) in self._entries.items()
        }


Run = tuple[int, int, int]
"""Rows to read: file, first row, last row + 1."""

Part = memoryview | bytes


def max_maps() -> int:
    """Return how many files one reader may keep mapped: a quarter of the descriptors that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 16_384 if soft == resource.RLIM_INFINITY else min(max(soft // 4, 16), 16_384)


class RowReader:
    """Reads rows of files that hold the same arrays.

    Files stay mapped from their first use, up to a limit, because each map holds a file descriptor. Files beyond it are opened
    for each read: that takes half the time of mapping them again, so that reading slows down little with many files.
    """

    def __init__(self, headers: Sequence[TensorHeader], *, max_maps: int) -> None:
        """Nothing is opened yet; the arrays are those of the first file."""
        self._headers = tuple(headers)
        self._max_maps = max_maps
        self._widths = {name: width for name, (_, width) in headers[0].places().items()} if headers else {}
        self._mapped: dict[str, dict[int, memoryview]] = {name: {} for name in self._widths}
        self._files: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Maps cannot be sent to another process: it opens its own.
        return self.__dict__ | {"_mapped": {name: {} for name in self._widths}, "_files": set()}

    def read(self, runs: Sequence[Run], names: Sequence[str]) -> list[list[Part]]:
        """Return for each named array the bytes of every run, read-only.

        Raises:
            SignalError: A file is shorter than it was when it was opened first.
        """
        new = {file for file, _, _ in runs} - self._files
        for file in sorted(new)[: max(0, self._max_maps - len(self._files))]:
            self._map(file)
        if new <= self._files:
            return [self._slices(runs, name) for name in names]
        rows = [self._rows(run, names) for run in runs]
        return [list(column) for column in zip(*rows, strict=True)]

    def _slices(self, runs: Sequence[Run], name: str) -> list[Part]:
        # The innermost loop of reading a batch: nothing in it but the slice.
        array, width = self._mapped[name], self._widths[name]
        return [array[file][start * width : stop * width] for file, start, stop in runs]

    def _rows(self, run: Run, names: Sequence[str]) -> list[Part]:
        if run[0] in self._files:
            return [self._slices([run], name)[0] for name in names]
        file, start, stop = run
        path, places = self._headers[file].path, self._headers[file].places()
        handle = os.open(path, os.O_RDONLY)
        try:
            found: list[Part] = []
            for at, width in [places[name] for name in names]:
                found.append(os.pread(handle, (stop - start) * width, at + start * width))
                if len(found[-1]) != (stop - start) * width:
                    raise SignalError(f"`{path}` ends before its row {stop}: it changed while it was open. Run the stage again.")
            return found
        finally:
            os.close(handle)

    def _map(self, file: int) -> None:
        header = self._headers[file]
        with header.path.open("rb") as handle:
            found = os.fstat(handle.fileno()).st_size
            if found != header.num_bytes:  # slices of a shorter map would be short without a word
                raise SignalError(
                    f"`{header.path}` must have {header.num_bytes} bytes, but has {found}: it changed while it was open. "
                    "Run the stage again."
                )
            view = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        for name, (at, _) in header.places().items():
            self._mapped[name][file] = view[at:]
        self._files.add(file)
