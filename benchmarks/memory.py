"""Peak memory of a function: how far the process's resident set grows while it runs."""

import ctypes
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc/self")


def peak_megabytes(function: Callable[[], object]) -> float | None:
    """Run `function` and return the growth of the resident set at its peak, 10⁶ bytes; None without Linux's /proc and glibc.

    The kernel's own high-water mark counts what every library allocates (Python, NumPy, torch), which no tracer of one does.
    Memory that earlier calls freed is first given back to the kernel, else its reuse would go unseen.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_PROC / "clear_refs").write_text("5")  # sets the high-water mark to what is resident now
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1e6


def _status(field: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
