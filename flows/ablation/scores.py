"""The scores of one run, by what they are called in an ablation: its arm, the untrained target, the best single source."""

import json
from collections.abc import Mapping
from typing import Any

from flows.ablation.kept import Scores
from flows.context import StageContext
from models.evaluation.fusion.comparison import choose_best_source
from models.evaluation.fusion.scores import ALL_FAMILIES, System, read_scores
from models.params.ablation import BEST_SOURCE, UNTRAINED
from tasks.evaluation import ROWS, SCORES

METRICS = ("accuracy", "bits_per_byte")


def final_scores(ctx: StageContext) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return metric → best source on the validation split, and the results table of a finished run."""
    known = {
        System(s.name, "source"): list(read_scores(ctx.input("evaluate_fusion", "valid", s.name).path / ROWS, with_text=False))
        for s in ctx.params.sources.models
        if ctx.out("evaluate_fusion", "valid", s.name).is_dir()
    }
    best = choose_best_source(known, chosen_on="valid").systems if known else {}
    table = json.loads((ctx.input("evaluate_fusion", "comparison").path / SCORES).read_text(encoding="utf-8"))["table"]
    return {metric: system.name for metric, system in best.items()}, list(table)


def values(scores: Scores, arm: str, metric: str, *, family: str = ALL_FAMILIES) -> dict[str, float]:
    """Return the arm, `untrained` and `best_source` → value of a metric; what was not measured is absent."""
    best = scores.best_source.get(metric)
    found: dict[str, float] = {}
    for row in scores.table:
        if (row["metric"], row["family"]) != (metric, family):
            continue
        if row["kind"] == "method":
            found[arm] = float(row["value"])
        elif row["kind"] == "untrained":
            found[UNTRAINED] = float(row["value"])
        elif row["system"] == best:
            found[BEST_SOURCE] = float(row["value"])
    return found


def arm_value(scores: Scores, metric: str) -> float | None:
    """Return a figure of the run's arm over all families."""
    return values(scores, "arm", metric).get("arm")


def final_metrics(scores: Scores) -> Mapping[str, float]:
    """Return `final/<metric>_<family>` of the arm, and `untrained/…` and `best_source/…` for comparison."""
    found: dict[str, float] = {}
    for row in scores.table:
        words = {"method": "final", "untrained": UNTRAINED}
        word = words.get(row["kind"]) or (BEST_SOURCE if row["system"] == scores.best_source.get(row["metric"]) else None)
        if word is not None:
            found[f"{word}/{row['metric'].replace('/', '_')}_{row['family']}"] = float(row["value"])
    return found
