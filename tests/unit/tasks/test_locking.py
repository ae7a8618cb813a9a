import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tasks.locking import FolderOf, ProcessLocks


def hold(folder: str, ready: str) -> None:
    os.environ["FUSEDIAL_ROOT"] = folder
    locks = ProcessLocks(FolderOf())
    locks.acquire_lock("k", "child")
    Path(ready).touch()
    time.sleep(60)


def test_holder_and_release(project: Path) -> None:
    locks = ProcessLocks(FolderOf())
    assert locks.acquire_lock("k", "me")
    assert locks.is_lock_holder("k", "me") and not locks.is_lock_holder("k", "you")
    assert locks.acquire_lock("k", "me"), "taking it again is allowed to its holder"
    with pytest.raises(ValueError, match="No lock held by you"):
        locks.release_lock("k", "you")
    locks.release_lock("k", "me")
    assert not locks.is_locked("k")
    assert locks.wait_for_lock("k", timeout=0)


def test_a_killed_holder_blocks_nobody(project: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = multiprocessing.get_context("spawn").Process(target=hold, args=(str(project), str(ready)))
    child.start()
    while not ready.exists():
        assert child.is_alive() or ready.exists(), "the child could not start (run the tests by `python -m pytest`)"
        time.sleep(0.05)
    locks = ProcessLocks(FolderOf())
    assert locks.is_locked("k")
    assert not locks.acquire_lock("k", "me", acquire_timeout=0.1)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert locks.acquire_lock("k", "me", acquire_timeout=5)
