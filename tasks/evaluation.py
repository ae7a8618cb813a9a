"""Tasks `evaluation` and `comparison`: held-out scores of every source and fused model, and their paired differences."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.params.evaluation import EvaluationParams
from models.params.runtime import Runtime
from models.params.teach import ScorerSpec
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun

if TYPE_CHECKING:
    from models.evaluation.fusion.run import AnswerScorer

ROWS, SCORES = "rows.jsonl", "scores.json"


@step("evaluation", retries=2)
def evaluation(
    cfg: EvaluationParams,
    data: Artifact,
    *,
    system: Artifact,
    folder: str,
    split: str,
    voters: tuple[ScorerSpec, ...],
    judges: Mapping[str, Artifact],
    encoders: Mapping[str, str],
    batch_size: int,
    overflow: str,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write rows.jsonl: likelihood, answer, correctness and rewards of one model on every example of a split.

    Args:
        cfg: Lengths and batch sizes.
        data: Corpus.
        system: The model, in `folder` of the artifact.
        folder: Its place.
        split: Split of `data`.
        voters: Scorers of `teach` that grade.
        judges: Scorer → reward model.
        encoders: Scorer → digest of the folder of its encoder.
        batch_size: Answers graded together.
        overflow: What happens to a prompt beyond the context.
        runtime: Device, endpoints.
        run: MLflow run.
        work: Scratch.
    """
    from models.corpus.examples import pick_examples, read_examples
    from models.evaluation.fusion.run import evaluate_model, with_rewards
    from models.evaluation.fusion.scores import write_scores
    from tasks.loaded_models import source_in_use, source_record

    name = source_record(system.path / folder).name
    examples = pick_examples(read_examples(data.path / f"{split}.jsonl"), limit=cfg.limit)
    scorers = _open_scorers(voters, judges, batch_size=batch_size, runtime=runtime)
    with RunSink(run, runtime=runtime, label=f"evaluate {name}") as sink:
        with source_in_use(system.path / folder, runtime=runtime) as loaded:
            rows = list(
                evaluate_model(
                    loaded,
                    examples,
                    cfg,
                    scorers={},
                    overflow=overflow,  # type: ignore[arg-type]
                    on_progress=lambda done: sink.progress(done, len(examples), unit="examples"),
                )
            )
        del loaded  # judges want its memory
        if cfg.answers:
            rows = with_rewards(rows, examples, scorers, see_truth={voter.name for voter in voters if voter.sees_truth})
        count = write_scores(work.out / ROWS, rows)
    return {"system": name, "split": split, "examples": count}


def _open_scorers(
    voters: tuple[ScorerSpec, ...], judges: Mapping[str, Artifact], *, batch_size: int, runtime: Runtime
) -> dict[str, "AnswerScorer"]:
    from tasks.backends import open_judge

    def scorer(voter: ScorerSpec) -> "AnswerScorer":
        folder = judges[voter.name].path if voter.name in judges else None
        judge = open_judge(voter, folder, batch_size=batch_size, runtime=runtime)
        return lambda items, truths: judge(items, truths, lambda _: None)

    return {voter.name: scorer(voter) for voter in voters}


@step("comparison")
def comparison(
    cfg: EvaluationParams,
    systems: tuple[Mapping[str, str | None], ...],
    *,
    test: tuple[Artifact, ...],
    valid: Mapping[str, Artifact],
    work: Work,
) -> Mapping[str, Any]:
    """Write scores.json: the results table with intervals, and the paired differences the claims rest on.

    Args:
        cfg: Bootstrap settings.
        systems: {name, kind, target} of each model.
        test: Its rows on the test split, in the same order.
        valid: Source → its rows on the validation split, where the best single source is chosen.
        work: Scratch.
    """
    from models.evaluation.bootstrap import Resampling
    from models.evaluation.fusion.claims import claim_pairs
    from models.evaluation.fusion.comparison import aggregate, choose_best_source, paired
    from models.evaluation.fusion.scores import System, read_scores

    scores = {
        System(**s): list(read_scores(a.path / ROWS, with_text=False))  # type: ignore[arg-type]
        for s, a in zip(systems, test, strict=True)
    }
    how = Resampling(samples=cfg.bootstrap_samples, confidence=cfg.confidence, seed=cfg.seed)
    known = {System(name, "source"): list(read_scores(a.path / ROWS, with_text=False)) for name, a in valid.items()}
    best = choose_best_source(known, chosen_on="valid") if known else None
    pairs = claim_pairs(list(scores), best=best)
    content = {
        "confidence": cfg.confidence,
        "table": [row.to_json() for row in aggregate(scores, resampling=how)],
        "comparisons": [row.to_json() for row in paired(scores, pairs, resampling=how)],
    }
    (work.out / SCORES).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"systems": len(systems), "rows": len(content["table"])}  # type: ignore[arg-type]
