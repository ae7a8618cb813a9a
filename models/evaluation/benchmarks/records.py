"""Records of the benchmarks: documents with their values, table rows; and the file of a step."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import ArtifactError
from models.evaluation.fusion.scores import System
from models.files import write_atomic


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """One document.

    Attributes:
        task: Task of lm-evaluation-harness (mmlu: a subject).
        number: Its place in the task.
        digest: Digest of its content: systems are compared on equal documents only.
        values: Metric → value: 0 or 1 for right and wrong, a probability for truthfulqa_mc2.
    """

    task: str
    number: int
    digest: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One system on one benchmark.

    Attributes:
        name: Benchmark.
        headline: The metric that tables lead with.
        num_fewshot: Solved examples in the prompt.
        task_version: Version of the task definition, by lm-evaluation-harness.
        harness_version: Version of lm-evaluation-harness.
        items: Every document.
    """

    name: str
    headline: str
    num_fewshot: int
    task_version: str
    harness_version: str
    items: tuple[BenchmarkItem, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One figure: the mean of a metric over the documents of a benchmark.

    Attributes:
        stderr: Standard error of the mean; None for a single document.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        limited: Whether only the first documents were scored.
        headline: Whether tables lead with this metric.
    """

    system: System
    benchmark: str
    metric: str
    value: float
    stderr: float | None
    low: float
    high: float
    num: int
    num_fewshot: int
    task_version: str
    harness_version: str
    limited: bool
    headline: bool

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        name, kind, target = row.pop("system").values()
        return {"system": name, "kind": kind, "target": target, **row}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "BenchmarkRow":
        rest = {key: value for key, value in row.items() if key not in ("system", "kind", "target")}
        return cls(System(row["system"], row["kind"], row["target"]), **rest)


def write_run(path: Path, run: BenchmarkRun) -> None:
    """Write a run as JSON lines: its facts, then a document a line."""
    head = {key: value for key, value in asdict(run).items() if key != "items"}
    lines = [head, *(asdict(item) for item in run.items)]
    write_atomic(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def read_run(path: Path) -> BenchmarkRun:
    """Read what `write_run` wrote.

    Raises:
        ArtifactError: The file is not a benchmark run.
    """
    try:
        head, *items = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return BenchmarkRun(**head, items=tuple(BenchmarkItem(**item) for item in items))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"`{path}` is not a benchmark run ({error}). Run the stage `benchmark` again.") from error
