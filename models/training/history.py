"""Training curves as a file that a resumed run continues: one row per step, whatever happened in between."""

import json
from collections.abc import Mapping
from pathlib import Path

from models.metrics_sink import MetricsSink

# They tell about the machine, not about the training, so they would make equal runs differ.
_PER_RUN = frozenset({"train/tokens_per_s"})


class HistorySink:
    """Passes everything on to another sink and keeps the metrics in a file."""

    def __init__(self, sink: MetricsSink, scratch: Path) -> None:
        """Append to `scratch` (JSON lines), which survives a kill; a line torn by one is closed, so that it spoils no other."""
        self._sink, self._scratch = sink, scratch
        if scratch.is_file() and not scratch.read_bytes().endswith(b"\n"):
            with scratch.open("a", encoding="utf-8") as file:
                file.write("\n")

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keep the row and pass it on."""
        row = {"step": step, **{k: float(v) for k, v in metrics.items() if k not in _PER_RUN}}
        with self._scratch.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._sink.log(metrics, step=step)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        """Pass it on."""
        self._sink.progress(done, total, unit=unit)


def write_history(scratch: Path, path: Path) -> int:
    """Write one row for every step, in order; returns the number of rows.

    Of a metric logged twice at a step (before and after a kill) the last value counts. A torn last line is dropped.
    """
    rows: dict[int, dict[str, float]] = {}
    lines = scratch.read_text(encoding="utf-8").splitlines() if scratch.is_file() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        step = int(row["step"])
        rows[step] = rows.get(step, {}) | row
    path.write_text("".join(json.dumps(rows[step], sort_keys=True) + "\n" for step in sorted(rows)), encoding="utf-8")
    return len(rows)
