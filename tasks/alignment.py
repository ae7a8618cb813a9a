"""Tasks `vocabulary-map` and `alignment`: the winners' distributions carried over to the target's tokens."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.params.alignment import AlignmentParams
from tasks.artifact import Artifact
from tasks.caching import Work, step

if TYPE_CHECKING:
    from models.fusion.alignment.target_signals import ChatTokenizer

MAP = "vocab_map.safetensors"


@step("vocabulary-map")
def vocabulary_map(cfg: AlignmentParams, source: Artifact, target: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Write the map source token id → target token id; where none is needed, only the summary that says so."""
    from models.fusion.alignment.target_signals import build_vocab_map

    ours, theirs = chat_tokenizer(target).codec, chat_tokenizer(source).codec
    mapping = build_vocab_map(theirs, ours, cfg)
    summary: dict[str, Any] = {"same_tokenizer": ours.digest == theirs.digest}
    if mapping is not None:
        mapping.save(work.out / MAP)
        summary |= mapping.summary()
    (work.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


@step("alignment")
def alignment(
    cfg: AlignmentParams,
    data: Artifact,
    *,
    target: Artifact,
    sources: Mapping[str, Artifact],
    maps: Mapping[str, Artifact],
    truths: Mapping[str, Artifact],
    answers: Mapping[str, Artifact],
    responses: Mapping[str, Artifact],
    advantage: Artifact,
    max_length: int,
    start: int,
    stop: int,
    work: Work,
) -> Mapping[str, Any]:
    """Write training/ and inference/: signals of the Min-CE and of the vote winner in the target's tokens, for one shard."""
    from models.corpus.examples import read_responses, read_slice
    from models.fusion.alignment.shard import AlignmentPlan, ShardFiles, align_files
    from models.fusion.shard_advantage import read_advantages
    from models.tokenization.vocab_map import VocabMap

    reports = align_files(
        ShardFiles(
            examples=read_slice(data.path / "train.jsonl", start, stop),
            advantages=list(read_advantages(advantage.path / "advantage.jsonl")),
            truths={name: a.path / "ground_truth" for name, a in truths.items()},
            answers={name: a.path / "response" for name, a in answers.items()},
            responses={name: read_responses(a.path) for name, a in responses.items()},
        ),
        AlignmentPlan(
            target=chat_tokenizer(target),
            sources={name: chat_tokenizer(a) for name, a in sources.items()},
            maps={n: VocabMap.load(a.path / MAP) if (a.path / MAP).is_file() else None for n, a in maps.items()},
            names=(target.meta["name"], target.meta["digest"]),
        ),
        cfg,
        corpus_digest=data.sha256,
        max_length=max_length,
        out=work.out,
    )
    (work.out / "coverage.json").write_text(json.dumps({m: asdict(r) for m, r in reports.items()}, indent=1), encoding="utf-8")
    return {mode: report.total() for mode, report in reports.items()}


def chat_tokenizer(source: Artifact) -> "ChatTokenizer":
    """Return tokenizer and chat template of a source."""
    from models.fusion.alignment.target_signals import ChatTokenizer
    from tasks.loaded_models import codec_in_use, source_record

    record = source_record(source.path)
    return ChatTokenizer(codec=codec_in_use(record), template=record.chat_template)
