"""Runtime of FAISS: threads, GPU mirrors, and a readers-writer lock."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import faiss
import torch

# The type stubs that FAISS brings know a part of what it has only.
FAISS: Any = faiss
_LOG = logging.getLogger(__name__)
# FAISS' GPU kernels select at most so many, and visit at most so many cells.
_GPU_MOST = 2048
_GPU_KINDS = ("flat", "ivf")


class faiss_threads:
    """Let FAISS run on `threads` threads (None: as many as torch does) inside the block.

    FAISS and torch have separate OpenMP runtimes, so torch's setting does not affect FAISS.
    """

    __slots__ = ("_before", "_wanted")

    def __init__(self, threads: int | None) -> None:
        self._wanted = threads or torch.get_num_threads()

    def __enter__(self) -> None:
        self._before = faiss.omp_get_max_threads()
        if self._before != self._wanted:
            faiss.omp_set_num_threads(self._wanted)

    def __exit__(self, *_: object) -> None:
        if self._before != self._wanted:
            faiss.omp_set_num_threads(self._before)


class GpuMirror:
    """A copy of a CPU index on a GPU, for searching, rebuilt after the CPU index has changed.

    The CPU index stays the one that is changed and saved, and keeps the ids: FAISS has no id map over a GPU index that could be
    changed, and reads vectors back by way of the CPU.
    """

    def __init__(self, device: int) -> None:
        """Take the GPU's scratch memory."""
        # Must live as long as the copies.
        self._resources = faiss.StandardGpuResources()
        self._device = device
        self._copy: Any = None

    def forget(self) -> None:
        """Drop the copy: the CPU index changed."""
        self._copy = None

    def can(self, num: int, nprobe: int = 1) -> bool:
        """Whether a search for `num` neighbours in `nprobe` cells fits the GPU's kernels."""
        return max(num, nprobe) <= _GPU_MOST

    def of(self, index: Any) -> Any:
        if self._copy is None:
            self._copy = faiss.index_cpu_to_gpu(self._resources, self._device, index)
        return self._copy


def gpu_mirror(device: str, *, kind: str) -> GpuMirror | None:
    """Return where an index of `kind` is searched on `device` (`cuda` or `cuda:1`); None for the CPU, the reason logged once."""
    wanted = torch.device(device)
    if wanted.type != "cuda":
        return None
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        _say_once("The index is searched on the CPU: this FAISS has no GPU (install the extra `gpu` in place of `cpu`).")
        return None
    if kind not in _GPU_KINDS:
        _say_once(f"The index is searched on the CPU: kind `{kind}` has no GPU form here (`flat` and `ivf` do).")
        return None
    return GpuMirror(wanted.index or 0)


@cache
def _say_once(reason: str) -> None:
    _LOG.info(reason)


class SharedLock:
    """Readers do not wait for each other; a writer that waits goes before readers that come later. It cannot be taken twice."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers = self._writers_waiting = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock together with other readers."""
        with self._changed:
            while self._writing or self._writers_waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers:
                    self._changed.wait()
            finally:
                self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
