"""One builder per cache key: a Prefect lock manager over operating-system locks, which vanish with their process.

Prefect's own file locks outlive a killed process and would block the next run for ever.
"""

import asyncio
import threading
from pathlib import Path

from filelock import FileLock, Timeout
from prefect.locking.protocol import LockManager
from typing_extensions import override


class ProcessLocks(LockManager):
    """Lock manager for `CachePolicy.configure(lock_manager=…)`, one flock file per key under `folder()`."""

    def __init__(self, folder: "FolderOf") -> None:
        self._folder = folder
        self._held: dict[str, tuple[str, FileLock]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["ProcessLocks"], tuple["FolderOf"]]:
        """Tasks travel to the workers of other engines; what is held here stays here."""
        return ProcessLocks, (self._folder,)

    def _lock(self, key: str) -> FileLock:
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        # Not thread-local: Prefect may acquire and release from different threads of one run.
        return FileLock(folder / f"{key}.lock", thread_local=False)

    @override
    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        if self.is_lock_holder(key, holder):
            return True
        lock = self._lock(key)
        try:
            lock.acquire(timeout=-1 if acquire_timeout is None else acquire_timeout)
        except Timeout:
            return False
        with self._guard:
            self._held[key] = (holder, lock)
        return True

    @override
    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    @override
    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back.

        Raises:
            ValueError: `holder` does not hold it.
        """
        with self._guard:
            owner, lock = self._held.get(key, ("", None))
            if lock is None or owner != holder:
                raise ValueError(f"No lock held by {holder} for transaction with key {key}")
            del self._held[key]
        lock.release()

    @override
    def is_locked(self, key: str) -> bool:
        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @override
    def is_lock_holder(self, key: str, holder: str) -> bool:
        with self._guard:
            return self._held.get(key, ("", None))[0] == holder

    @override
    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        lock = self._lock(key)
        try:
            lock.acquire(timeout=-1 if timeout is None else timeout)
        except Timeout:
            return False
        lock.release()
        return True

    @override
    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)


class FolderOf:
    """A folder computed at use, so that importing a task needs no project."""

    def __call__(self) -> Path:
        """Return the lock folder of the present project."""
        from tasks.workspace import cache_dir

        return cache_dir() / "locks"

    def __deepcopy__(self, memo: object) -> "FolderOf":
        return self
