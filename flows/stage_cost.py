"""What a stage took: seconds, memory at its peak, what it put into the store; kept with its record, to hold `plan` against."""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.artifact import MANIFEST
from tasks.workspace import store_dir

_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of all threads of the process; 0 = unknown.
        peak_bytes: High-water mark of the process.
        stored_bytes: Artifacts that were new.
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

    def __init__(self) -> None:
        """Begin; the high-water mark is set back where the system lets us, else it is that of the whole process."""
        self._started, self._cpu, self._wall = time.monotonic(), time.process_time(), time.time()
        try:
            (_PROC / "clear_refs").write_text("5")
        except OSError:
            pass  # not Linux, or not allowed

    def read(self) -> StageCost:
        """Return what was taken until now."""
        seconds, cpu = time.monotonic() - self._started, time.process_time() - self._cpu
        return StageCost(seconds, _peak_bytes(), _stored_since(self._wall), cpu)


def _peak_bytes() -> int:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _stored_since(moment: float) -> int:
    manifests = (m for m in store_dir().glob(f"*/*/{MANIFEST}") if m.stat().st_mtime >= moment)
    return sum(file["bytes"] for m in manifests for file in json.loads(m.read_text(encoding="utf-8"))["files"])
