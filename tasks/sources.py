"""Tasks of the stage `sources`: resolve models, or train the embedded ones and their reward model."""

from collections.abc import Mapping
from typing import Any

from models.params.runtime import Runtime
from models.params.sources import PicoTraining, RewardModelSpec, SourceSpec
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun
from tasks.workspace import project_root


@step("resolve-source")
def resolve_source(spec: SourceSpec, content: str, *, work: Work) -> Mapping[str, Any]:
    """Pin down a source model; `content` is the digest of its folder (empty for a hub name with its revision)."""
    from models.generation.resolve import resolve_source as resolve
    from models.generation.source_file import write_source

    source = resolve(spec, root=project_root())
    write_source(work.out, source, root=project_root())
    return {"name": source.name, "digest": source.digest, "notes": list(source.notes)}


@step("pico-tokenizer")
def pico_tokenizer(letter: str, vocab_size: int, data: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Train the tokenizer that the embedded sources with this letter share."""
    from models.training.pico_tokenizer import train_tokenizer

    train_tokenizer(letter, data.path / "pretrain", vocab_size=vocab_size, out=work.out)
    return {"letter": letter, "vocab_size": vocab_size}


@step("pico-source")
def pico_source(
    spec: SourceSpec,
    training: PicoTraining,
    data: Artifact,
    tokenizer: Artifact,
    *,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train one embedded source."""
    from models.generation.resolve import resolve_source as resolve
    from models.generation.source_file import write_source
    from models.training.pico import train_pico_source

    with RunSink(run, runtime=runtime, label=f"train {spec.name}") as sink:
        train_pico_source(
            spec, training, data.path / "pretrain", tokenizer_dir=tokenizer.path, runtime=runtime, out=work.out, sink=sink
        )
    source = resolve(spec.model_copy(update={"model": str(work.out), "pico": None}), root=project_root())
    write_source(work.out, source)
    return {"name": source.name, "digest": source.digest}


@step("pico-reward-model")
def pico_reward_model(
    spec: RewardModelSpec,
    training: PicoTraining,
    data: Artifact,
    tokenizer: Artifact,
    *,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train the embedded reward model on the world's preferences."""
    from models.generation.resolve import resolve_reward_model as resolve
    from models.generation.source_file import write_source
    from models.training.pico import train_pico_reward_model

    with RunSink(run, runtime=runtime, label=f"train {spec.name}") as sink:
        train_pico_reward_model(
            spec,
            training,
            data.path / "preferences.jsonl",
            tokenizer_dir=tokenizer.path,
            runtime=runtime,
            out=work.out,
            sink=sink,
        )
    model = resolve(spec.model_copy(update={"model": str(work.out)}), root=project_root())
    write_source(work.out, model)
    return {"name": spec.name, "digest": model.digest}


@step("resolve-reward-model")
def resolve_reward_model(spec: RewardModelSpec, content: str, *, work: Work) -> Mapping[str, Any]:
    """Pin down a reward model by folder or hub name; its weights stay where they are."""
    from models.generation.resolve import resolve_reward_model as resolve
    from models.generation.source_file import write_source

    record = resolve(spec, root=project_root())
    write_source(work.out, record, root=project_root())
    return {"name": spec.name, "digest": record.digest}
