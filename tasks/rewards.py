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
    """Write rewards.jsonl: {id, scores: {source#sample: score}} for every example of the shard.

    A scorer that leaves an answer ungraded abstains on the example: there are no scores.
    """
    from models.data.corpus import read_slice
    from models.fusion.rewards import TextItem, candidate_key
    from models.generation.response_file import read_responses
    from tasks.judges import open_judge

    examples = {e.id: e for e in read_slice(data.path / "train.jsonl", start, stop)}
    answers = [r for _, artifact in sorted(responses.items()) for r in read_responses(artifact.path)]
    items = [TextItem(r.id, examples[r.id].messages, r.text) for r in answers]
    table: dict[str, dict[str, float]] = {id_: {} for id_ in examples}
    judge = open_judge(scorer, model.path if model else None, batch_size=cfg.batch_size, runtime=runtime)
    with RunSink(run, runtime=runtime, label=f"{scorer.name} judges {start}-{stop}") as sink:
        truths = [examples[r.id].response for r in answers]
        values = judge(items, truths, lambda done: sink.progress(done, len(items), unit="answers"))
    for answer, value in zip(answers, values, strict=True):
        if value is not None:
            table[answer.id][candidate_key(answer)] = value
    ungraded = {answer.id for answer, value in zip(answers, values, strict=True) if value is None}
    table |= {id_: {} for id_ in ungraded}
    with (work.out / "rewards.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": id_, "scores": scores}) + "\n" for id_, scores in table.items())
    return {
        "scorer": scorer.name,
        "answers": len(answers),
        "ungraded": sum(value is None for value in values),
        "abstained": len(ungraded),
    }
