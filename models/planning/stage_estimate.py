"""What a stage needs, in either half: disk, memory, computing, time.

Host memory is the main memory of the machine, device memory that of one accelerator; on a CPU both come from the same memory.
Peaks are per machine (host) and per process (device).
"""

from dataclasses import dataclass

from models.planning.footprint import JudgingCost

PROCESS_BYTES = 690_000_000
"""Resident memory of a stage before it computes: Python, torch, transformers, Prefect, MLflow (measured: 685 to 700 MB)."""
LIGHT_PROCESS_BYTES = 300_000_000
"""The same without torch, as `prepare` runs."""
START_SECONDS = 3.0
"""Start-up time of a stage: libraries, models, records (measured: 2 to 4 s)."""


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """Resources of one stage.

    Attributes:
        stage: Its name.
        disk_bytes: Written and kept, resume state included.
        host_bytes: Peak of main memory.
        device_bytes: Peak of one process on its device.
        flops: Floating-point operations over all processes.
        resume_bytes: Part of `disk_bytes` that is resume state, deleted when the result is safe.
        layer_calls: Passes through one layer that wait for each other (steps × layers): with small models and while generating,
            starting them takes longer than what they compute.
        fixed_seconds: Time independent of the machine's speed, besides `START_SECONDS`.
        judging: What it asks of judges behind endpoints, where each answer is graded at the first reply.
    """

    stage: str
    disk_bytes: int
    host_bytes: int
    device_bytes: int
    flops: float
    layer_calls: float = 0.0
    resume_bytes: int = 0
    fixed_seconds: float = 0.0
    judging: JudgingCost | None = None

    def seconds(self, flops_per_second: float, *, seconds_per_layer: float = 0.0, processes: int = 1) -> float:
        """Return the seconds at a sustained rate per process (40 % of the peak is good for training)."""
        computed = self.flops / flops_per_second + self.layer_calls * seconds_per_layer
        return START_SECONDS + self.fixed_seconds + computed / processes
