"""Rows of the arrays of many safetensors files, as bytes."""

import mmap
import os
import resource
from collections.abc import Sequence
from typing import Any

from models.errors import SignalError
from models.fusion.safetensors_file import TensorHeader

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
    for each read: that takes half the time of mapping them anew, so that reading slows down little as files become many.
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

    @property
    def num_maps(self) -> int:
        """Files that are mapped now."""
        return len(self._files)

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
