"""Tasks `evaluation` and `comparison`: held-out scores of every source and fused model, and their paired differences."""

import json
from collections.abc import Mapping
from typing import Any

from models.params.evaluation import EvaluationParams
from models.params.runtime import Runtime
from models.params.teach import RewardParams
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun


@step("evaluation")
def evaluation(
    cfg: EvaluationParams,
    voters: RewardParams,
    data: Artifact,
    system: Artifact,
    judges: Mapping[str, Artifact],
    *,
    folder: str,
    split: str,
    name: str,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write rows.jsonl: likelihood, answer, correctness and rewards of one model on every held-out example."""
    from models.evaluation.fusion_scores import evaluate_model, write_rows

    from tasks.resident import resident_source

    loaded = resident_source(system.path / folder, runtime=runtime)
    with RunSink(run, runtime=runtime, label=f"evaluate {name}") as sink:
        rows = evaluate_model(
            loaded,
            data.path / f"{split}.jsonl",
            cfg,
            voters=voters,
            judges={n: a.path for n, a in judges.items()},
            device=runtime.device,
            sink=sink,
        )
    write_rows(work.out / "rows.jsonl", rows)
    return {"system": name, "split": split, "examples": len(rows)}


@step("comparison")
def comparison(
    cfg: EvaluationParams,
    systems: tuple[Mapping[str, str], ...],
    test: tuple[Artifact, ...],
    valid: tuple[Artifact, ...],
    *,
    work: Work,
) -> Mapping[str, Any]:
    """Write scores.json: one row per system, family and metric with intervals, and the paired differences.

    Args:
        cfg: Bootstrap settings.
        systems: For each model {name, kind: source | method, target, method}.
        test: Its rows on the test split, in the same order.
        valid: The sources' rows on the validation split (which source is best is chosen there), in the order of `systems`.
        work: Scratch.
    """
    from models.evaluation.compare import compare_systems

    content = compare_systems(
        cfg, systems, test=[a.path / "rows.jsonl" for a in test], valid=[a.path / "rows.jsonl" for a in valid]
    )
    (work.out / "scores.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"systems": len(systems), "rows": len(content["scores"])}
