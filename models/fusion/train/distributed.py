"""Training in several processes: the job file, the torchrun command, and the way back of metrics, results and errors.

A flow runs in one process with its tracking; the training runs in others, started by torchrun. They share `resume_dir`: the job
goes there as `job.json`, rank 0 appends metrics to `events.jsonl`, every rank leaves its error in `error-<rank>.json`.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import torch

import models.errors
from models.errors import FusedialError, ProblemsError
from models.metrics_sink import MetricsSink
from models.params.fusion import FusionParams
from models.params.runtime import Runtime
from models.records import from_row
from models.schema import ResolvedSource
from models.training.checkpoints import write_json

logger = logging.getLogger(__name__)

_JOB, _EVENTS, _LOG = "job.json", "events.jsonl", "launch.log"
_POLL_S = 0.2
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class FusionJob:
    """The arguments of one training, as `train_fusion` takes them; `write` makes the paths absolute."""

    cfg: FusionParams
    method: str
    target: ResolvedSource
    train_store: Path
    infer_store: Path
    out: Path
    resume_dir: Path
    runtime: Runtime
    log_every: int

    def write(self) -> Path:
        """Write the job into its `resume_dir` and return the file."""
        row = {
            "cfg": self.cfg.model_dump(mode="json"),
            "method": self.method,
            "target": asdict(self.target),
            "train_store": str(self.train_store.absolute()),
            "infer_store": str(self.infer_store.absolute()),
            "out": str(self.out.absolute()),
            "resume_dir": str(self.resume_dir.absolute()),
            "runtime": self.runtime.model_dump(mode="json"),
            "log_every": self.log_every,
        }
        self.resume_dir.mkdir(parents=True, exist_ok=True)
        write_json(self.resume_dir / _JOB, row)
        return self.resume_dir / _JOB

    @classmethod
    def read(cls, path: Path) -> "FusionJob":
        """Return the job of a file that `write` wrote."""
        row = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            cfg=FusionParams(**row["cfg"]),
            method=row["method"],
            target=from_row(ResolvedSource, row["target"]),
            train_store=Path(row["train_store"]),
            infer_store=Path(row["infer_store"]),
            out=Path(row["out"]),
            resume_dir=Path(row["resume_dir"]),
            runtime=Runtime(**row["runtime"]),
            log_every=row["log_every"],
        )


def launched() -> bool:
    """Return whether torchrun started this process."""
    return torch.distributed.is_torchelastic_launched()


def launch_command(job: Path, *, nproc: int) -> list[str]:
    """Return the command that trains a written job in `nproc` processes of this machine.

    On several machines, give torchrun its own rendezvous options and call `models.fusion.train.run.run_rank` the same way.
    """
    code = f"from pathlib import Path; from models.fusion.train.run import run_rank; run_rank(Path({str(job.absolute())!r}))"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nproc)]
    return [*torchrun, "--no-python", sys.executable, "-c", code]


def launch(job: FusionJob, sink: MetricsSink) -> None:
    """Train a job in `runtime.nproc` processes and wait for them; metrics reach `sink` as they come.

    Raises:
        FusedialError: What the first failing rank raised; if it was another kind of error, one with the end of the log.
    """
    path = job.write()
    folder = job.resume_dir
    for old in [folder / _EVENTS, *folder.glob("error-*.json")]:
        old.unlink(missing_ok=True)
    (folder / _EVENTS).touch()
    command = launch_command(path, nproc=job.runtime.nproc)
    logger.info("Training in %d processes; their log is `%s`.", job.runtime.nproc, folder / _LOG)
    with (folder / _LOG).open("wb") as log, (folder / _EVENTS).open(encoding="utf-8") as events:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            reader = _EventReader(events, sink)
            while process.poll() is None:
                reader.forward()
                time.sleep(_POLL_S)
            reader.forward()
        finally:
            _stop(process)
    if process.returncode != 0:
        raise _failure(folder, process.returncode)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the launcher, if it is still running; it terminates its ranks."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(folder: Path, code: int) -> FusedialError:
    for path in sorted(folder.glob("error-*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(models.errors, row["kind"], FusedialError)
        # Errors that collect problems cannot be built from their text.
        simple = kind if issubclass(kind, FusedialError) and not issubclass(kind, ProblemsError) else FusedialError
        return simple(row["message"])
    tail = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    return FusedialError(f"The training processes ended with code {code}; the end of `{folder / _LOG}`:\n" + "\n".join(tail))


def leave_error(folder: Path, rank: int, error: FusedialError) -> None:
    """Write `error-<rank>.json`, which the process that waits in `launch` raises."""
    write_json(folder / f"error-{rank}.json", {"kind": type(error).__name__, "message": str(error)})


class EventSink:
    """The sink of rank 0: a line per event, which the waiting process reads."""

    def __init__(self, folder: Path) -> None:
        """Append to the events of a `resume_dir`."""
        self._path = folder / _EVENTS

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Append a line with the metrics of a step."""
        self._append({"metrics": dict(metrics), "step": step})

    def progress(self, done: int, total: int, *, unit: str) -> None:
        """Append a line with the progress."""
        self._append({"done": done, "total": total, "unit": unit})

    def _append(self, event: Mapping[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


class _EventReader:
    """Passes complete lines of the events file to a sink; a line that is still being written is left for the next call."""

    def __init__(self, file: TextIO, sink: MetricsSink) -> None:
        self._file, self._sink, self._rest = file, sink, ""

    def forward(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            event = json.loads(line)
            if "metrics" in event:
                self._sink.log(event["metrics"], step=event["step"])
            else:
                self._sink.progress(event["done"], event["total"], unit=event["unit"])
