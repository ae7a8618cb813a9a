"""Task `rewards`: one scorer judges every source's answers of one shard."""

import json
from collections.abc import Mapping
from typing import Any

from models.params.runtime import Runtime
from models.params.teach import RewardParams, ScorerSpec
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun


@step("rewards", retries=2)
def rewards(
    cfg: RewardParams,
    scorer: ScorerSpec,
    data: Artifact,
    model: Artifact | None,
    responses: Mapping[str, Artifact],
    *,
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write rewards.jsonl: {id, scores: {source#sample: score}} for every example of the shard."""
    from models.data.corpus import read_slice
    from models.fusion.rewards import Candidate, open_scorer
    from models.generation.response_file import read_responses
    from tasks.endpoints import endpoint

    examples = {e.id: e for e in read_slice(data.path / "train.jsonl", start, stop)}
    candidates = [
        Candidate(id=r.id, key=f"{source}#{r.sample}", example=examples[r.id], text=r.text)
        for source, artifact in sorted(responses.items())
        for r in read_responses(artifact.path)
    ]
    client = endpoint(scorer.name, runtime=runtime, model=scorer.model) if scorer.kind == "judge" else None
    score = open_scorer(
        scorer, folder=model.path if model else None, client=client, batch_size=cfg.batch_size, device=runtime.device
    )
    table: dict[str, dict[str, float]] = {id_: {} for id_ in examples}
    with RunSink(run, runtime=runtime, label=f"{scorer.name} judges {start}-{stop}") as sink:
        values = score(candidates, on_progress=lambda done: sink.progress(done, len(candidates), unit="answers"))
    for candidate, value in zip(candidates, values, strict=True):
        table[candidate.id][candidate.key] = value
    with (work.out / "rewards.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": id_, "scores": scores}) + "\n" for id_, scores in table.items())
    return {"scorer": scorer.name, "answers": len(candidates)}
