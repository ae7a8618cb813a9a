"""Tasks `benchmark` and `benchmark-scores`: one model on one standard benchmark; the table of all, and paired differences."""

import json
from collections.abc import Mapping
from typing import Any

from models.params.benchmark import BenchmarkShard
from models.params.runtime import Runtime
from tasks.artifact import Artifact, tree_digest
from tasks.caching import Work, step
from tasks.workspace import project_root

RUN, BENCHMARKS = "run.jsonl", "benchmarks.json"


@step("benchmark")
def benchmark(
    cfg: BenchmarkShard,
    *,
    system: Artifact,
    folder: str,
    harness: str,
    runtime: Runtime,
    work: Work,
) -> Mapping[str, Any]:
    """Write run.jsonl: every document of a benchmark with the value of every metric.

    Args:
        cfg: The benchmark, its local files included.
        system: The model, in `folder` of the artifact.
        folder: Its place.
        harness: Version of lm-evaluation-harness and digest of its definition (`harness_identity`).
        runtime: Device.
        work: Scratch.
    """
    from models.evaluation.benchmarks.harness import definitions_folder, run_benchmark
    from models.evaluation.benchmarks.local import write_definitions
    from models.evaluation.benchmarks.records import write_run
    from tasks.loaded_models import source_in_use

    definitions = []
    if cfg.data:
        definitions = write_definitions(
            cfg.name,
            project_root() / cfg.data,
            harness=definitions_folder(),
            num_fewshot=cfg.num_fewshot,
            out=work.resume,
            place=cfg.data,
        )
    with source_in_use(system.path / folder, runtime=runtime) as loaded:
        name = loaded.source.name
        run = run_benchmark(
            loaded, cfg.name, definitions, num_fewshot=cfg.num_fewshot, limit=cfg.limit, batch_size=cfg.batch_size
        )
    write_run(work.out / RUN, run)
    return {"system": name, "benchmark": cfg.name, "documents": len(run.items)}


def harness_identity(name: str) -> str:
    """Return the version of lm-evaluation-harness, with the digest of its definition of a known benchmark.

    Raises:
        FusedialError: It is not installed.
    """
    from models.evaluation.benchmarks.harness import definitions_folder, harness_version
    from models.evaluation.benchmarks.table import KNOWN

    if name not in KNOWN:
        return harness_version()
    folder = (definitions_folder() / KNOWN[name].definition).parent
    code = {path.name: tree_digest(path) for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".py")}
    return f"{harness_version()} {json.dumps(code)}"


def require_local(cfg: BenchmarkShard) -> None:
    """Require the local files of a benchmark, where it is to be read from some.

    Raises:
        ParamsError: There are none for a benchmark of this name, or none with the solved examples that are asked for.
        DataError: The file is missing.
    """
    from models.evaluation.benchmarks.local import require_file, require_solved

    if cfg.data:
        folder = project_root() / cfg.data
        require_file(cfg.name, folder, place=cfg.data)
        require_solved(cfg.name, folder, num_fewshot=cfg.num_fewshot or 0, place=cfg.data)


@step("benchmark-scores")
def benchmark_scores(
    systems: tuple[Mapping[str, str | None], ...],
    *,
    runs: tuple[tuple[Artifact, ...], ...],
    limited: tuple[bool, ...],
    bootstrap_samples: int,
    confidence: float,
    seed: int,
    work: Work,
) -> Mapping[str, Any]:
    """Write benchmarks.json: means with standard errors and intervals, and the paired differences.

    Args:
        systems: {name, kind, target} of each model.
        runs: A row for each benchmark: its runs, in the order of the systems.
        limited: Whether only the first documents of a benchmark were scored.
        bootstrap_samples: Resamples.
        confidence: Level of the intervals.
        seed: Seed of the bootstrap.
        work: Scratch.
    """
    from models.evaluation.benchmarks.comparison import benchmark_differences, benchmark_rows
    from models.evaluation.benchmarks.records import read_run
    from models.evaluation.bootstrap import Resampling
    from models.evaluation.fusion.scores import System

    how = Resampling(samples=bootstrap_samples, confidence=confidence, seed=seed)
    content: dict[str, Any] = {"confidence": confidence, "table": [], "comparisons": []}
    for made, some in zip(runs, limited, strict=True):
        scored = {
            System(**s): read_run(a.path / RUN)  # type: ignore[arg-type]
            for s, a in zip(systems, made, strict=True)
        }
        content["table"] += [row.to_json() for row in benchmark_rows(scored, limited=some, resampling=how)]
        content["comparisons"] += [row.to_json() for row in benchmark_differences(scored, resampling=how)]
    (work.out / BENCHMARKS).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"benchmarks": len(runs), "rows": len(content["table"])}
