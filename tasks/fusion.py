"""Task `fusion`: the progressive training of the target (eq. 3–7 of ProFuser)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.params.fusion import CheckpointParams, FusionParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Execution, Work, step
from tasks.tracking import RunSink, StageRun


@dataclass(frozen=True)
class Checkpoints(Execution):
    """When training state is saved: decides how much a kill costs, never the weights."""

    params: CheckpointParams


@step("fusion")
def fusion(
    cfg: FusionParams,
    target: Artifact,
    aligned: tuple[Artifact, ...],
    *,
    method: str,
    checkpoints: Checkpoints,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train one method on the aligned shards; a killed run continues from its last checkpoint."""
    from models.fusion.signals.shard import link_shards
    from models.fusion.train.run import train_fusion
    from models.training.checkpoints import HISTORY
    from models.training.history import HistorySink, write_history
    from tasks.loaded_models import check_unchanged, release_models, source_record

    release_models()
    source = source_record(target.path)
    check_unchanged(source)
    stores = {}
    for mode in ("training", "inference"):
        stores[mode] = link_shards([shard.path / mode for shard in aligned], work.resume / mode)
    resume = _made(work.resume / "checkpoints")
    curves = resume / HISTORY
    with RunSink(run, runtime=runtime, label=f"fuse {method}") as sink:
        record = train_fusion(
            cfg.model_copy(update={"checkpoints": checkpoints.params}),
            method=method,
            target=source,
            train_store=stores["training"],
            infer_store=stores["inference"],
            out=work.out,
            resume_dir=resume,
            runtime=runtime,
            sink=HistorySink(sink, curves),
            log_every=run.log_every,
        )
    write_history(curves, work.out / HISTORY)
    (work.out / "coverage.json").write_text(json.dumps(coverage(aligned), indent=1), encoding="utf-8")
    return {**record.to_json(), "name": record.result}


def coverage(aligned: tuple[Artifact, ...]) -> dict[str, dict[str, int]]:
    """Return per source what became of the target's positions, over all shards and both modes."""
    total: dict[str, dict[str, int]] = {}
    for shard in aligned:
        for mode in json.loads((shard.path / "coverage.json").read_text(encoding="utf-8")).values():
            for source, counts in mode["coverage"].items():
                kept = total.setdefault(source, {})
                for key, value in counts.items():
                    kept[key] = kept.get(key, 0) + value
    return total


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
