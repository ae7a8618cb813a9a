"""Giving freed memory back to the system: glibc keeps it, in pieces, and a process that trains many models grows by them."""

import ctypes
import functools
from collections.abc import Callable


def release_memory_after(device_type: str) -> None:
    """Return what a step has freed, after a step on a CPU; on another device torch's own allocator keeps the tensors."""
    if device_type == "cpu":
        release_memory()


def release_memory() -> None:
    """Return what is free to the system, where the C library can (glibc); takes some ten milliseconds."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found
