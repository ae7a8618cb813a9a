"""Tasks of the retriever: its warm start by distant supervision, and joint training with the response generator (MML)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.params.dialogue import DialogueParams, Variant
from models.params.dialogues import Setting
from models.params.index import IndexParams
from models.params.retriever import RetrieverParams
from models.params.runtime import Runtime
from models.records import to_row
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun
from tasks.workspace import project_root


@step("retriever-warm-start")
def retriever_warm_start(
    cfg: RetrieverParams,
    data: Artifact,
    *,
    setting: Setting,
    encoder: str,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train the retriever on pseudo positives (App. D of MK-TOD); `encoder` is the digest of its folder, if it has one."""
    from models.dialogue.train.warm_start.run import warm_start
    from models.training.history import HistorySink, write_history

    curves = work.resume / "history.jsonl"
    with RunSink(run, runtime=runtime, label="warm start") as sink:
        record = warm_start(
            cfg,
            data.path,
            setting=setting,
            root=project_root(),
            runtime=runtime,
            out=work.out,
            resume_dir=work.resume,
            sink=HistorySink(sink, curves),
        )
    write_history(curves, work.out / "history.jsonl")
    return {**asdict(record), "recall": dict(record.recall), "name": "warm-start"}


@step("retriever-training")
def retriever_training(
    cfg: DialogueParams,
    index: IndexParams,
    data: Artifact,
    warm: Artifact,
    *,
    variant: Variant,
    setting: Setting,
    generator: str,
    model: Artifact | None,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train retriever and generator jointly (eq. 7 and 11 of MK-TOD).

    `generator` is the digest of its folder, if params name one; `model` what was made of it here, if they name anything else.
    """
    from models.dialogue.train.run import train_dialogue
    from models.training.history import HistorySink, write_history

    curves = work.resume / "history.jsonl"
    with RunSink(run, runtime=runtime, label=f"train dialogue {variant}") as sink:
        record = train_dialogue(
            cfg,
            index,
            variant=variant,
            setting=setting,
            data=data.path,
            warm=warm.path,
            root=project_root(),
            runtime=runtime,
            out=work.out,
            resume_dir=work.resume,
            sink=HistorySink(sink, curves),
            log_every=run.log_every,
            generator=None if model is None else _folder(model),
        )
    write_history(curves, work.out / "history.jsonl")
    return {**to_row(record), "name": variant}


def _folder(model: Artifact) -> Path:
    """Return the folder of a source, a fused model, or an unpacked file."""
    from models.lm.source_file import SOURCE_FILE, read_source

    folder = model.path / "model" if (model.path / "model").is_dir() else model.path
    if not (folder / SOURCE_FILE).is_file():
        return folder
    return Path(read_source(folder, root=project_root()).location)
