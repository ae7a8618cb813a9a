"""From documents to the table: means with standard error and interval, and paired differences on the same documents."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.errors import DataError, Problem
from models.evaluation.benchmarks.records import BenchmarkRow, BenchmarkRun
from models.evaluation.bootstrap import Resampling, ratio_differences, ratio_intervals
from models.evaluation.fusion.claims import claim_pairs
from models.evaluation.fusion.scores import ComparisonRow, System

Runs = Mapping[System, BenchmarkRun]
"""System → its run of one benchmark."""


def benchmark_rows(runs: Runs, *, limited: bool, resampling: Resampling) -> list[BenchmarkRow]:
    """Return every metric of every system on one benchmark.

    A benchmark of several tasks (mmlu) is the mean over documents, as lm-evaluation-harness weights its groups by size. The
    standard error is the sample's, s / √n, as there.

    Raises:
        DataError: The systems were not scored on the same documents.
    """
    _check_same(runs)
    rows = []
    for metric in _metrics(runs):
        columns = _columns(runs, metric)
        intervals = ratio_intervals(columns, np.ones(len(columns)), resampling=resampling)
        for (system, run), values, got in zip(runs.items(), columns.T, intervals, strict=True):
            error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            facts = (run.num_fewshot, run.task_version, run.harness_version, limited, metric == run.headline)
            rows.append(BenchmarkRow(system, run.name, metric, got.value, error, got.low, got.high, got.num, *facts))
    return rows


def benchmark_differences(runs: Runs, *, resampling: Resampling) -> list[ComparisonRow]:
    """Return the paired differences of the headline metric, the benchmark's name in `family`.

    The pairs are those of the held-out scores (`claim_pairs`), without the best single source: that is chosen on a validation
    split, which these sets do not have here.

    Raises:
        DataError: The systems were not scored on the same documents.
    """
    _check_same(runs)
    pairs = claim_pairs(list(runs))
    if not pairs:
        return []
    run = next(iter(runs.values()))
    values = dict(zip(runs, _columns(runs, run.headline).T, strict=True))
    gaps = np.stack([values[pair.a] - values[pair.b] for pair in pairs], axis=1)
    found = ratio_differences(gaps, np.ones(len(gaps)), resampling=resampling)
    return [
        ComparisonRow(pair.a, pair.b, run.name, run.headline, d.value, d.low, d.high, d.p, d.num)
        for pair, d in zip(pairs, found, strict=True)
    ]


def headline_rows(rows: Iterable[BenchmarkRow]) -> list[BenchmarkRow]:
    """Return the rows that tables lead with."""
    return [row for row in rows if row.headline]


def _metrics(runs: Runs) -> Sequence[str]:
    """Return the metrics that every document of every system has."""
    shared = [set(item.values) for run in runs.values() for item in run.items]
    first = next(iter(runs.values())).items[0].values
    return [metric for metric in first if all(metric in names for names in shared)]


def _columns(runs: Runs, metric: str) -> npt.NDArray[np.float64]:
    """Return [N documents, M systems]."""
    return np.array([[item.values[metric] for item in run.items] for run in runs.values()], dtype=np.float64).T


def _check_same(runs: Runs) -> None:
    first, expected = next((s, [item.digest for item in run.items]) for s, run in runs.items())
    for system, run in runs.items():
        if [item.digest for item in run.items] != expected:
            rule = f"must be scored on the {len(expected)} documents of `{first.label}`"
            problem = Problem(
                f"system `{system.label}` on {run.name}", rule, f"on {len(run.items)} others", "Run the stage `benchmark` again."
            )
            raise DataError("The systems cannot be compared", [problem])
