"""Task `cross-entropy`: one source scores the ground truth (with its distribution) and its own answers of one shard."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from models.params.runtime import Runtime
from models.params.teach import SignalParams
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun

if TYPE_CHECKING:
    from models.fusion.signals.record import SampleSignals
    from models.lm.prompts import Overflow, TextItem
    from models.schema import Split


@step("cross-entropy", retries=2)
def cross_entropy(
    cfg: SignalParams,
    data: Artifact,
    source: Artifact,
    responses: Artifact,
    *,
    overflow: "Overflow",
    split: "Split",
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write scores.jsonl (cross-entropy of ground truth and answers) and, of training examples, ground_truth/ (the signals).

    Of a prompt without a ground truth the answers alone are scored.
    """
    from models.corpus.examples import read_responses, read_slice
    from models.fusion.shard_advantage import GROUND_TRUTH, RESPONSE, score_row
    from models.fusion.signals.shard import write_shard
    from models.lm.prompts import TextItem
    from tasks.backends import open_teacher

    examples = read_slice(data.path / f"{split}.jsonl", start, stop)
    prompts = {e.id: e.messages for e in examples}
    truths = [TextItem(e.id, e.messages, e.response, e.ended) for e in examples if e.response is not None]
    answers = [TextItem(f"{r.id}#{r.sample}", prompts[r.id], r.text, r.ended) for r in read_responses(responses.path)]
    scores: list[dict[str, Any]] = []
    total = len(truths) + len(answers)
    with (
        open_teacher(cfg, source.path, overflow=overflow, runtime=runtime) as teacher,
        RunSink(run, runtime=runtime, label=f"{teacher.source.name} scores {start}-{stop}") as sink,
    ):

        def score(items: "list[TextItem]", top_k: int | None, text: str, offset: int) -> "Iterator[SampleSignals]":
            forced = teacher.force(items, top_k, lambda done: sink.progress(offset + done, total, unit="texts"))
            for item, (signals, one) in zip(items, forced, strict=True):
                scores.append(score_row(item.id, text, one))
                yield signals

        if split == "train":
            spec = teacher.spec(corpus_digest=data.sha256, top_k=cfg.top_k, kind="ground_truth")
            write_shard(work.out / "ground_truth", 0, spec, score(truths, cfg.top_k, GROUND_TRUTH, 0))
        else:
            deque(score(truths, None, GROUND_TRUTH, 0), maxlen=0)
        deque(score(answers, None, RESPONSE, len(truths)), maxlen=0)
    with (work.out / "scores.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in scores)
    return {"source": teacher.source.name, "texts": total}


@step("winner-signals", retries=2)
def winner_signals(
    cfg: SignalParams,
    data: Artifact,
    source: Artifact,
    responses: Artifact,
    advantage: Artifact,
    *,
    overflow: "Overflow",
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write response/: the source's distributions on those of its answers that won the vote."""
    from models.corpus.examples import read_responses, read_slice
    from models.fusion.shard_advantage import read_advantages
    from models.fusion.signals.shard import write_shard
    from models.lm.prompts import TextItem
    from tasks.backends import open_teacher
    from tasks.loaded_models import source_record

    name = source_record(source.path).name
    won = {a.id: a.infer_sample for a in read_advantages(advantage.path / "advantage.jsonl") if a.infer_winner == name}
    prompts = {e.id: e.messages for e in read_slice(data.path / "train.jsonl", start, stop)}
    winners = [r for r in read_responses(responses.path) if won.get(r.id) == r.sample]
    items = [TextItem(r.id, prompts[r.id], r.text, r.ended) for r in winners]
    with (
        open_teacher(cfg, source.path, overflow=overflow, runtime=runtime) as teacher,
        RunSink(run, runtime=runtime, label=f"{name} winning answers {start}-{stop}") as sink,
    ):
        forced = teacher.force(items, cfg.top_k, lambda done: sink.progress(done, len(items), unit="texts"))
        spec = teacher.spec(corpus_digest=data.sha256, top_k=cfg.top_k, kind="response")
        write_shard(work.out / "response", 0, spec, (signals for signals, _ in forced))
    return {"source": name, "won": len(items)}
