"""Tasks `vocabulary-map` and `alignment`: the winners' distributions carried over to the target's tokens."""

import json
from collections.abc import Mapping
from typing import Any

from models.params.alignment import AlignmentParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Work, step


@step("vocabulary-map")
def vocabulary_map(cfg: AlignmentParams, source: Artifact, target: Artifact, *, work: Work) -> Mapping[str, Any]:
    """Write vocab_map.safetensors: source token id → target token id."""
    from models.fusion.aligned import build_vocab_map

    from models.generation.loading import load_codec
    from tasks.resident import source_record

    mapping = build_vocab_map(load_codec(source_record(source.path)), load_codec(source_record(target.path)), how=cfg.vocab_map)
    mapping.save(work.out / "vocab_map.safetensors")
    summary = mapping.summary()
    (work.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


@step("alignment")
def alignment(
    cfg: AlignmentParams,
    data: Artifact,
    target: Artifact,
    sources: Mapping[str, Artifact],
    maps: Mapping[str, Artifact],
    truths: Mapping[str, Artifact],
    answers: Mapping[str, Artifact],
    responses: Mapping[str, Artifact],
    advantage: Artifact,
    *,
    max_length: int,
    start: int,
    stop: int,
    runtime: Runtime,
    work: Work,
) -> Mapping[str, Any]:
    """Write training/ and inference/: signals of the Min-CE and of the vote winner in the target's tokens, for one shard."""
    from models.fusion.align_shard import ShardInputs, align_shard

    from models.data.corpus import read_slice
    from models.fusion.advantage import read_advantages
    from models.generation.response_file import read_responses

    coverage = align_shard(
        cfg,
        ShardInputs(
            examples=read_slice(data.path / "train.jsonl", start, stop),
            advantages=list(read_advantages(advantage.path / "advantage.jsonl")),
            sources={name: a.path for name, a in sources.items()},
            maps={name: a.path / "vocab_map.safetensors" for name, a in maps.items()},
            truths={name: a.path / "ground_truth" for name, a in truths.items()},
            answers={name: a.path / "response" for name, a in answers.items()},
            responses={name: read_responses(a.path) for name, a in responses.items()},
        ),
        target=target.path,
        corpus_digest=data.sha256,
        max_length=max_length,
        out=work.out,
    )
    (work.out / "coverage.json").write_text(json.dumps(coverage, indent=1), encoding="utf-8")
    return coverage
