"""Task `rewards`: one scorer judges every source's answers of one shard."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.params.runtime import Runtime
from models.params.teach import ScorerSpec
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun

if TYPE_CHECKING:
    from models.schema import Example, Response, Split


@step("rewards", retries=2)
def rewards(
    scorer: ScorerSpec,
    data: Artifact,
    model: Artifact | None,
    responses: Mapping[str, Artifact],
    scores: Mapping[str, Artifact],
    *,
    content: str,
    batch_size: int,
    split: "Split",
    start: int,
    stop: int,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write rewards.jsonl: {id, scores: {source#sample: score}} for every example of the shard.

    A scorer that leaves an answer ungraded abstains on the example: it has no scores there. One that compares with the ground
    truth abstains where there is none.

    Args:
        scorer: The voter.
        data: Corpus.
        model: A reward model.
        responses: Source → its answers.
        scores: Source → how sure it was of them; for the kind `confidence` only.
        content: Digest of an encoder's folder.
        batch_size: Answers judged together.
        split: Split of `data`.
        start: First example.
        stop: Behind the last one.
        runtime: Device, endpoints.
        run: MLflow run.
        work: Scratch.
    """
    from models.corpus.examples import read_responses, read_slice
    from models.fusion.scorers import candidate_key

    examples = {e.id: e for e in read_slice(data.path / f"{split}.jsonl", start, stop)}
    answers = [r for _, artifact in sorted(responses.items()) for r in read_responses(artifact.path)]
    table: dict[str, dict[str, float]] = {id_: {} for id_ in examples}
    if scorer.kind == "confidence":
        values: Sequence[float | None] = _confidence(answers, scores)
    elif scorer.kind == "check":
        values = _checked(answers, examples)
    else:
        with RunSink(run, runtime=runtime, label=f"{scorer.name} judges {start}-{stop}") as sink:
            values = _graded(scorer, model, answers, examples, batch_size=batch_size, runtime=runtime, sink=sink)
    for answer, value in zip(answers, values, strict=True):
        if value is not None:
            table[answer.id][candidate_key(answer)] = value
    silent = {answer.id for answer, value in zip(answers, values, strict=True) if value is None}
    table |= {id_: {} for id_ in silent}
    with (work.out / "rewards.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": id_, "scores": found}) + "\n" for id_, found in table.items())
    # `check` has no opinion of rows without one; the others should have graded every answer that they can grade.
    able = [_can_grade(scorer, examples[answer.id]) for answer in answers]
    ungraded = 0 if scorer.kind == "check" else sum(value is None for value, can in zip(values, able, strict=True) if can)
    return {"scorer": scorer.name, "answers": len(answers), "ungraded": ungraded, "abstained": len(silent)}


def _graded(
    scorer: ScorerSpec,
    model: Artifact | None,
    answers: "Sequence[Response]",
    examples: "Mapping[str, Example]",
    *,
    batch_size: int,
    runtime: Runtime,
    sink: RunSink,
) -> "Sequence[float | None]":
    from models.lm.prompts import TextItem
    from tasks.backends import open_judge

    graded = [r for r in answers if _can_grade(scorer, examples[r.id])]
    items = [TextItem(r.id, examples[r.id].messages, r.text) for r in graded]
    truths = [examples[r.id].response or "" for r in graded]
    judge = open_judge(scorer, model.path if model else None, batch_size=batch_size, runtime=runtime)
    found = iter(judge(items, truths, lambda done: sink.progress(done, len(items), unit="answers")) if items else ())
    return [next(found) if _can_grade(scorer, examples[r.id]) else None for r in answers]


def _can_grade(scorer: ScorerSpec, example: "Example") -> bool:
    """Whether a scorer has what it compares answers with."""
    return example.response is not None or not scorer.sees_truth


def _confidence(answers: "Sequence[Response]", scores: Mapping[str, Artifact]) -> list[float]:
    from models.fusion.scorers import confidence_scores
    from models.fusion.shard_advantage import read_own_scores

    own = {
        (source, key): score for source, a in scores.items() for key, score in read_own_scores(a.path / "scores.jsonl").items()
    }
    return confidence_scores([own[r.source, f"{r.id}#{r.sample}"] for r in answers])


def _checked(answers: "Sequence[Response]", examples: "Mapping[str, Example]") -> list[float | None]:
    from models.evaluation.fusion.correctness import is_correct

    found = [is_correct(examples[r.id], r.text) for r in answers]
    return [None if right is None else float(right) for right in found]
