"""Training curves as a file that a resumed run continues: one row per step, whatever happened in between."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.files import write_atomic
from models.metrics_sink import MetricsSink

# Properties of the machine, not of the training: they would make equal runs differ.
_PER_RUN = frozenset({"train/tokens_per_s"})


class HistorySink:
    """Passes everything on to another sink and keeps the metrics in a file."""

    def __init__(self, sink: MetricsSink, scratch: Path) -> None:
        """Append to `scratch` (JSON lines), which survives a kill; a line that a kill truncated is ended first."""
        self._sink, self._scratch = sink, scratch
        if scratch.is_file() and not scratch.read_bytes().endswith(b"\n"):
            with scratch.open("a", encoding="utf-8") as file:
                file.write("\n")

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Append the row to the file, without metrics that vary from run to run, and pass everything on."""
        row = {"step": step, **{k: float(v) for k, v in metrics.items() if k not in _PER_RUN}}
        with self._scratch.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._sink.log(metrics, step=step)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        self._sink.progress(done, total, unit=unit)


def write_history(scratch: Path, path: Path) -> int:
    """Write one row per step to `path`, in order of steps, and return the number of rows.

    If a metric was logged twice at a step (before and after a kill), the last value counts. Lines that are not rows (a kill or a
    full disk can truncate one) are dropped.
    """
    rows: dict[int, dict[str, Any]] = {}
    for line in scratch.read_bytes().splitlines() if scratch.is_file() else []:
        row = _row(line)
        if row is not None:
            rows[row["step"]] = rows.get(row["step"], {}) | row
    write_atomic(path, "".join(json.dumps(rows[step], sort_keys=True) + "\n" for step in sorted(rows)))
    return len(rows)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and type(row.get("step")) is int and all(isinstance(v, int | float) for v in row.values())
    return row if whole else None
