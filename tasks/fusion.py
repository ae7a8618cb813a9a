"""Task `fusion`: the progressive training of the target (eq. 3–7 of ProFuser)."""

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
    from models.training.fusion import train_fusion
    from tasks.resident import source_record

    from models.fusion.signal import link_shards

    stores = {}
    for mode in ("training", "inference"):
        stores[mode] = link_shards([shard.path / mode for shard in aligned], work.resume / mode)
    with RunSink(run, runtime=runtime, label=f"fuse {method}") as sink:
        record = train_fusion(
            cfg.model_copy(update={"checkpoints": checkpoints.params}),
            method=method,
            target=source_record(target.path),
            train_store=stores["training"],
            infer_store=stores["inference"],
            out=work.out,
            resume_dir=_made(work.resume / "checkpoints"),
            runtime=runtime,
            sink=sink,
            log_every=run.log_every,
        )
    return {"method": method, "target": target.meta["name"], **record.to_json()}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
