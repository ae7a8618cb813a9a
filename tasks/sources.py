"""Tasks of the stage `sources`: resolve models, or train the embedded ones and their reward model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.files import link_or_copy
from models.lm.gguf.find import GgufFile
from models.params.corpus import WorldParams
from models.params.runtime import Runtime
from models.params.sources import PicoTraining, PreferenceParams, RewardModelSpec, SourceSpec
from tasks.artifact import Artifact
from tasks.caching import IDENTITY, Execution, Work, step
from tasks.manifest import MANIFEST
from tasks.tracking import RunSink, StageRun
from tasks.workspace import project_root


@step("resolve-source")
def resolve_source(spec: SourceSpec, content: str, *, place: str, work: Work) -> Mapping[str, Any]:
    """Pin down a source model; `content` is the digest of its folder (empty for a hub name with its revision).

    Its record holds its path (`place`), so another path is another record; what is made with it does not depend on the path.
    """
    from models.lm.resolve import resolve_source as resolve
    from models.lm.source_file import source_identity, write_source

    source = resolve(spec, root=project_root())
    write_source(work.out, source, root=project_root())
    return {"name": source.name, "digest": source.digest, "notes": list(source.notes), IDENTITY: source_identity(source)}


@dataclass(frozen=True, slots=True)
class GgufPlace(Execution):
    """Where a GGUF file lies; what it is stands in its digest."""

    file: GgufFile


@step("gguf-model")
def gguf_model(content: str, dtype: Literal["float32", "bfloat16"], *, place: GgufPlace, work: Work) -> Mapping[str, Any]:
    """Unpack the GGUF file with the sha256 `content` into a model folder."""
    from models.lm.gguf.convert import convert_gguf

    return convert_gguf(place.file, dtype=dtype, out=work.out, scratch=work.resume)


@step("gguf-source")
def gguf_source(spec: SourceSpec, converted: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Pin down a source whose GGUF file has been unpacked; its folder holds the same files and the record."""
    from models.lm.resolve import resolve_source as resolve
    from models.lm.source_file import write_source

    for file in sorted(converted.path.iterdir()):
        if file.name != MANIFEST:
            link_or_copy(file, work.out / file.name)
    plain = {"model": str(work.out), "gguf": None, "revision": None}
    source = resolve(spec.model_copy(update=plain), root=project_root())
    write_source(work.out, source)
    return {"name": source.name, "digest": source.digest, "notes": list(source.notes)}


@step("pretraining-rows")
def pretraining_rows(data: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Take from the corpus what embedded models are trained on, so that other ground truths train no source again."""
    files = [*sorted((data.path / "pretrain").glob("*.jsonl*")), *sorted(data.path.glob("preferences.jsonl*"))]
    for file in files:
        link_or_copy(file, work.out / file.relative_to(data.path))
    return {"families": [file.stem for file in files if file.suffix == ".jsonl" and file.parent.name == "pretrain"]}


@step("pico-tokenizer")
def pico_tokenizer(letter: str, vocab_size: int, data: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Train the tokenizer that the embedded sources with this letter share."""
    from models.lm.pico.models import train_tokenizer

    train_tokenizer(letter, data.path / "pretrain", vocab_size=vocab_size, out=work.out)
    return {"letter": letter, "vocab_size": vocab_size}


@step("pico-source")
def pico_source(
    spec: SourceSpec,
    training: PicoTraining,
    data: Artifact,
    tokenizer: Artifact,
    *,
    world: WorldParams | None,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train one embedded source; one with answers of its own needs the params of the `world`."""
    from models.lm.pico.sources import train_pico_source
    from models.lm.resolve import resolve_source as resolve
    from models.lm.source_file import write_source

    with RunSink(run, runtime=runtime, label=f"train {spec.name}") as sink:
        train_pico_source(
            spec,
            training,
            data.path / "pretrain",
            tokenizer_dir=tokenizer.path,
            world=world,
            runtime=runtime,
            out=work.out,
            sink=sink,
        )
    source = resolve(spec.model_copy(update={"model": str(work.out), "pico": None}), root=project_root())
    write_source(work.out, source)
    return {"name": source.name, "digest": source.digest}


@step("pico-answers")
def pico_answers(
    cfg: PreferenceParams, data: Artifact, source: Artifact, *, runtime: Runtime, run: StageRun, work: Work
) -> Mapping[str, Any]:
    """Write what one embedded source answers to prompts that no reward model judges."""
    from models.corpus.examples import write_responses
    from models.lm.answers import generate_responses
    from models.lm.pico.reward_training import answered_prompts
    from models.lm.prompts import PromptItem
    from models.params.teach import ResponseParams
    from tasks.loaded_models import source_in_use

    rows = answered_prompts(data.path / "pretrain", num_prompts=cfg.num_prompts, seed=cfg.seed)
    total = len(rows) * cfg.num_samples
    name = str(source.meta["name"])
    with (
        RunSink(run, runtime=runtime, label=f"{name} answers for preferences") as sink,
        source_in_use(source.path, runtime=runtime) as loaded,
    ):
        items = [PromptItem(e.id, e.messages) for e in rows]
        how = ResponseParams(
            max_new_tokens=min(cfg.max_new_tokens, loaded.source.context_length // 2),
            temperature=cfg.temperature,
            num_samples=cfg.num_samples,
            seed=cfg.seed,
        )
        answers = generate_responses(loaded, items, how, on_progress=lambda done: sink.progress(done, total, unit="answers"))
    write_responses(work.out, answers)
    return {"name": name, "answers": len(answers)}


@step("pico-reward-model")
def pico_reward_model(
    spec: RewardModelSpec,
    training: PicoTraining,
    preferences: PreferenceParams,
    data: Artifact,
    *,
    tokenizer: Artifact,
    answers: tuple[Artifact, ...],
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Train the embedded reward model on answers of the embedded sources, right against wrong, and on the world's preferences."""
    from models.corpus.examples import answers_by_prompt
    from models.evaluation.fusion.correctness import is_correct
    from models.lm.pico.reward_training import PairSets, answer_pairs, answered_prompts, read_pairs
    from models.lm.pico.sources import train_pico_reward_model
    from models.lm.resolve import resolve_reward_model as resolve
    from models.lm.source_file import write_source

    rows = answered_prompts(data.path / "pretrain", num_prompts=preferences.num_prompts, seed=preferences.seed)
    said = answers_by_prompt([artifact.path for artifact in answers])
    real = list(answer_pairs(rows, said, is_right=is_correct))
    pairs = PairSets(list(read_pairs(data.path / "preferences.jsonl")), real, preferences.share)
    with RunSink(run, runtime=runtime, label=f"train {spec.name}") as sink:
        train_pico_reward_model(
            spec,
            training,
            pairs,
            tokenizer_dir=tokenizer.path,
            runtime=runtime,
            out=work.out,
            sink=sink,
        )
    model = resolve(spec.model_copy(update={"model": str(work.out)}), root=project_root())
    write_source(work.out, model)
    return {"name": spec.name, "digest": model.digest, "real_pairs": len(real)}


@step("resolve-reward-model")
def resolve_reward_model(spec: RewardModelSpec, content: str, *, place: str, work: Work) -> Mapping[str, Any]:
    """Pin down a reward model by folder or hub name, as `resolve_source`; its weights stay where they are."""
    from models.lm.resolve import resolve_reward_model as resolve
    from models.lm.source_file import source_identity, write_source

    record = resolve(spec, root=project_root())
    write_source(work.out, record, root=project_root())
    return {"name": spec.name, "digest": record.digest, IDENTITY: source_identity(record)}
