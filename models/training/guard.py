"""Keeps trainings apart: one at a time in a process, one process per resume folder, a fixed number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from models.errors import ArtifactError

# Trainer and accelerate keep one state per process, and dropout draws from one generator: trainings in threads take turns.
ONE_AT_A_TIME = threading.Lock()
_LOCK_WAIT_S = 10.0


@contextmanager
def exclusive(folder: Path, *, wanted: bool = True) -> Iterator[None]:
    """Lock `folder` for this process: processes that a killed launcher left running must not write to it as well.

    Args:
        folder: Resume state; created if absent.
        wanted: False = do nothing (the ranks that do not write).

    Raises:
        ArtifactError: Another process has held the lock for 10 seconds.
    """
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / "lock"))
    try:
        lock.acquire(timeout=_LOCK_WAIT_S)
    except Timeout as err:
        raise ArtifactError(
            f"`{folder}` must be free, but another process trains in it. Wait for it or end it, then run again."
        ) from err
    try:
        yield
    finally:
        lock.release()


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Compute with `number` torch threads inside the block, and restore the previous number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_for_all() -> None:
    """Return once all processes of the group, if there is one, have called this."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
