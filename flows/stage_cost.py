"""What a stage took: seconds, memory at its peak, what it put into the store; kept with its record, to hold `plan` against."""

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.artifact import published_bytes

_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of all threads of the process; 0 = unknown, or other processes worked for it.
        peak_bytes: High-water mark of the process.
        stored_bytes: Artifacts that this process put into the store.
    """

    seconds: float
    peak_bytes: int
    stored_bytes: int
    cpu_seconds: float = 0.0

    @property
    def undisturbed_seconds(self) -> float:
        """Seconds without what other processes took of the machine: CPU time, where it is less than the wall's."""
        return min(self.seconds, self.cpu_seconds or self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


class CostMeter:
    """Measures from its making on."""

    def __init__(self, *, alone: bool) -> None:
        """Begin; the high-water mark is set back where the system lets us, else it is that of the whole process.

        Args:
            alone: Whether this process does all the work: no workers, no other processes, no server.
        """
        self._started, self._cpu, self._stored = time.monotonic(), time.process_time(), published_bytes()
        self._alone = alone
        try:
            (_PROC / "clear_refs").write_text("5")
        except OSError:
            pass  # not Linux, or not allowed

    def read(self) -> StageCost:
        """Return what was taken until now."""
        seconds, cpu = time.monotonic() - self._started, time.process_time() - self._cpu
        return StageCost(seconds, _peak_bytes(), published_bytes() - self._stored, cpu if self._alone else 0.0)


def _peak_bytes() -> int:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
