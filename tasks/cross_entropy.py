"""Task `cross-entropy`: one source scores the ground truth (with its distribution) and its own answers of one shard."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from models.params.runtime import Runtime
from models.params.teach import SignalParams
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun

if TYPE_CHECKING:
    from models.fusion.scoring import TextItem
    from models.fusion.signal import SampleSignals, SignalSpec
    from models.generation.loading import LoadedSource
    from models.generation.prompts import Overflow


def signal_spec(loaded: "LoadedSource", data: Artifact, *, top_k: int, kind: str) -> "SignalSpec":
    """Describe signals of this source: readers refuse a store made with another tokenizer, template or corpus."""
    from models.fusion.signal import SignalSpec
    from models.tokenization.chat import template_digest

    source = loaded.source
    return SignalSpec(
        source=source.name,
        model_digest=source.digest,
        tokenizer_digest=source.tokenizer_digest,
        template_digest=template_digest(source.chat_template),
        corpus_digest=data.sha256,
        top_k=top_k,
        vocab_size=loaded.codec.vocab_size,
        kind=kind,  # type: ignore[arg-type]
    )


@step("cross-entropy", retries=2)
def cross_entropy(
    cfg: SignalParams,
    data: Artifact,
    source: Artifact,
    responses: Artifact,
    *,
    overflow: "Overflow",
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write scores.jsonl (cross-entropy of ground truth and answers) and ground_truth/ (the signals)."""
    from models.data.corpus import read_slice
    from models.fusion.scoring import TextItem, force_texts
    from models.fusion.shard_advantage import GROUND_TRUTH, RESPONSE, score_row
    from models.fusion.signal import write_shard
    from models.generation.response_file import read_responses
    from tasks.resident import resident_source

    loaded = resident_source(source.path, runtime=runtime)
    examples = read_slice(data.path / "train.jsonl", start, stop)
    prompts = {e.id: e.messages for e in examples}
    truths = [TextItem(e.id, e.messages, e.response) for e in examples]
    answers = [TextItem(f"{r.id}#{r.sample}", prompts[r.id], r.text) for r in read_responses(responses.path)]
    scores: list[dict[str, Any]] = []
    total = len(truths) + len(answers)

    with RunSink(run, runtime=runtime, label=f"{loaded.source.name} scores {start}-{stop}") as sink:

        def score(items: "list[TextItem]", top_k: int | None, text: str, offset: int) -> "Iterator[SampleSignals]":
            for item, forced in zip(
                items,
                force_texts(
                    loaded,
                    items,
                    top_k=top_k,
                    batch_tokens=cfg.batch_tokens,
                    overflow=overflow,
                    on_progress=lambda done: sink.progress(offset + done, total, unit="texts"),
                ),
                strict=True,
            ):
                scores.append(score_row(item.id, text, forced.score))
                yield forced.signals

        spec = signal_spec(loaded, data, top_k=cfg.top_k, kind="ground_truth")
        write_shard(work.out / "ground_truth", 0, spec, score(truths, cfg.top_k, GROUND_TRUTH, 0))
        for _ in score(answers, None, RESPONSE, len(truths)):
            pass
    with (work.out / "scores.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in scores)
    return {"source": loaded.source.name, "texts": total}


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
    """Write response/: the source's distributions over those of its own answers that won the vote."""
    from models.data.corpus import read_slice
    from models.fusion.scoring import TextItem, capture_signals
    from models.fusion.shard_advantage import read_advantages
    from models.fusion.signal import write_shard
    from models.generation.response_file import read_responses
    from tasks.resident import resident_source

    loaded = resident_source(source.path, runtime=runtime)
    won = {
        a.id: a.infer_sample for a in read_advantages(advantage.path / "advantage.jsonl") if a.infer_winner == loaded.source.name
    }
    prompts = {e.id: e.messages for e in read_slice(data.path / "train.jsonl", start, stop)}
    items = [TextItem(r.id, prompts[r.id], r.text) for r in read_responses(responses.path) if won.get(r.id) == r.sample]
    with RunSink(run, runtime=runtime, label=f"{loaded.source.name} winning answers {start}-{stop}") as sink:
        signals = capture_signals(
            loaded,
            items,
            top_k=cfg.top_k,
            batch_tokens=cfg.batch_tokens,
            overflow=overflow,
            on_progress=lambda done: sink.progress(done, len(items), unit="texts"),
        )
        spec = signal_spec(loaded, data, top_k=cfg.top_k, kind="response")
        write_shard(work.out / "response", 0, spec, signals)
    return {"source": loaded.source.name, "won": len(items)}
