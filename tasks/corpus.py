"""Tasks `corpus` and `dialogues`: read, validate, split; or generate the embedded world."""

from collections.abc import Mapping
from typing import Any

from models.params.corpus import CorpusParams, WorldParams
from models.params.dialogues import DialoguesParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun
from tasks.workspace import project_root


@step("corpus")
def corpus(cfg: CorpusParams, files: Mapping[str, str], *, runtime: Runtime, run: StageRun, work: Work) -> Mapping[str, Any]:
    """Write train, valid and test examples, with statistics; `files` maps data sets to digests."""
    from models.corpus.prepare import prepare_corpus

    with RunSink(run, runtime=runtime, label="prepare") as sink:
        record = prepare_corpus(cfg, root=project_root(), out=work.out, sink=sink)
    return record.to_json()


@step("validation-prompts")
def validation_prompts(data: Artifact, *, limit: int, work: Work) -> Mapping[str, Any]:
    """Write valid.jsonl: examples of the validation split, chosen by a hash of their ids, on which scorers are judged.

    Examples with nothing to compare an answer with (no ground truth, no check) are left out.
    """
    from models.corpus.examples import pick_examples, read_examples, write_examples

    judgeable = (example for example in read_examples(data.path / "valid.jsonl") if example.judgeable)
    return {"valid": write_examples(work.out / "valid.jsonl", pick_examples(judgeable, limit=limit))}


@step("known-answers")
def known_answers(world: WorldParams | None, data: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Write answers.jsonl: {id, answer, check} of every training prompt whose answer is known: what an oracle may see.

    Those of the embedded `world` come from its generator, also for prompts without a ground truth; other rows show their own.
    They stand apart from the corpus, so that no scorer and no training can see them.
    """
    from models.corpus.prepare import write_known_answers, write_shown_answers

    if world is not None:
        return {"answers": write_known_answers(world, out=work.out)}
    return {"answers": write_shown_answers(data.path / "train.jsonl", out=work.out)}


@step("dialogues")
def dialogues(
    cfg: DialoguesParams, files: Mapping[str, str], *, runtime: Runtime, run: StageRun, work: Work
) -> Mapping[str, Any]:
    """Write knowledge base and turns, with statistics; `files` holds the digest of their folder."""
    from models.dialogue.data.prepare import prepare_dialogues

    with RunSink(run, runtime=runtime, label="prepare dialogues") as sink:
        return prepare_dialogues(cfg, root=project_root(), out=work.out, sink=sink)
