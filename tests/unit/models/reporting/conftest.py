"""A small made-up evaluation: three sources, one target, two methods, two families; and one of the dialogue half."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.dialogue_report import dialogue_report  # noqa: F401 (fixtures)

from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.claims import claim_pairs
from models.evaluation.fusion.comparison import aggregate, choose_best_source, paired
from models.evaluation.fusion.scores import ComparisonRow, ScoreRow, System, TableRow
from models.reporting.fusion.data import ReportData, select_examples
from models.schema import Example, Message

HOW = Resampling(samples=200)


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return [
        Example(
            f"e{i:02}",
            "safety" if i % 2 else "reasoning",
            (Message("user", f"Is {i} < 3 & true?"),),
            f"truth {i}",
            "yes",
            "contains",
        )
        for i in range(40)
    ]


@pytest.fixture(scope="session")
def scores(examples: list[Example]) -> dict[System, list[ScoreRow]]:
    rates = {
        System("scholar", "source"): 0.4,
        System("solver", "source"): 0.5,
        System("scholar", "untrained", "scholar"): 0.4,
        System("sft", "method", "scholar"): 0.6,
        System("profuser", "method", "scholar"): 0.9,
    }
    return {system: _rows(examples, rate, system.name) for system, rate in rates.items()}


def _rows(examples: Sequence[Example], rate: float, name: str) -> list[ScoreRow]:
    rng = np.random.default_rng(int(100 * rate))
    nll = (2 - rate) * math.log(2) * 20
    return [
        ScoreRow(
            id=e.id,
            family=e.family,
            nll=nll,
            num_bytes=20,
            num_tokens=6,
            lossless=True,
            correct=bool(rng.random() < rate),
            rewards={"rm": float(rng.normal(rate))},
            text=f"{name} says <b>{e.id}</b>",
            finish="eos",
        )
        for e in examples
    ]


@pytest.fixture(scope="session")
def table(scores: dict[System, list[ScoreRow]]) -> tuple[TableRow, ...]:
    return aggregate(scores, resampling=HOW)


@pytest.fixture(scope="session")
def comparisons(scores: dict[System, list[ScoreRow]]) -> tuple[ComparisonRow, ...]:
    best = choose_best_source(scores, chosen_on="valid")
    return paired(scores, claim_pairs(list(scores), best=best), resampling=HOW)


@pytest.fixture(scope="session")
def wins() -> list[dict[str, Any]]:
    shares = {
        ("all", "training"): (7, 3),
        ("all", "inference"): (4, 6),
        ("safety", "training"): (2, 3),
        ("safety", "inference"): (0, 5),
    }
    return [
        {"family": f, "mode": m, "source": s, "wins": w, "num_examples": sum(both), "share": w / sum(both)}
        for (f, m), both in shares.items()
        for s, w in zip(("scholar", "solver"), both, strict=True)
    ]


@pytest.fixture(scope="session")
def agreement() -> dict[str, Any]:
    duel = {"num_training": 10, "num_inference": 10, "training_tie_share": 0.0}
    return {
        "overall": {"num_examples": 10, "agreeing": 5, "share": 0.5},
        "by_family": {"safety": {"num_examples": 5, "agreeing": 2, "share": 0.4}},
        "confusion": {"sources": ["scholar", "solver"], "counts": [[3, 4], [1, 2]]},
        "pairwise": [
            {"a": "scholar", "b": "solver", "training_share": 0.68, "inference_share": 0.45, "inference_tie_share": 0.1, **duel},
            {"a": "solver", "b": "scholar", "training_share": 0.32, "inference_share": 0.45, "inference_tie_share": 0.1, **duel},
        ],
    }


@pytest.fixture(scope="session")
def trainings() -> dict[str, dict[str, Any]]:
    """Records of two trainings at the budget of the ground truth."""

    def mode(*figures: float) -> dict[str, float]:
        return dict(zip(("steps", "passes", "lr_sum", "weighted_lr_sum"), figures, strict=True))

    nothing, both = mode(0, 0, 0, 0), {"w_infer": 0.1, "w_train": 1.0, "infer_tokens": 500, "train_tokens": 2500}
    common = {"budget": "ground_truth", "normalise": "mode"}
    sft = {"total_steps": 304, "extra_steps": 0, "ground_truth": mode(304, 8.0, 153.0, 153.0), "winners": nothing}
    ours = {
        "total_steps": 1456,
        "extra_steps": 1152,
        "ground_truth": mode(304, 8.0, 153.0, 139.1),
        "winners": mode(1456, 12, 9, 8),
    }
    alone = {"number": 1, "w_infer": 1.0, "w_train": 0.0, "infer_tokens": 500, "train_tokens": 0, "token_weight": None}
    return {
        "sft": {**common, "exposure": sft, "phases": [alone]},
        "profuser": {**common, "exposure": ours, "phases": [alone, {"number": 2, **both, "token_weight": 0.5}]},
    }


@pytest.fixture(scope="session")
def quality() -> dict[str, Any]:
    row = {"scorer": "rm", "kind": "reward_model", "sees_truth": False, "against": "check", "by_definition": False}
    measured = {"num_pairs": 40, "accuracy": 0.475, "low": 0.4, "high": 0.55, "picks_right": 0.5, "num_prompts": 30}
    check = {"scorer": "right", "kind": "check", "sees_truth": True, "by_definition": True}
    return {
        "num_prompts": 30,
        "num_voters": 2,
        "scorers": [
            row | measured,
            row | measured | check,
        ],
        "picks": [{"against": "check", "num_prompts": 30, "vote": 0.9, "any_source": 0.45, "oracle": 0.95}],
        "warnings": ["Scorer `rm` ranks answers no better than <chance>."],
    }


@pytest.fixture(scope="session")
def winners() -> dict[str, Any]:
    return {
        "prompts": 10,
        "winners": 8,
        "cut": 0,
        "without_winner": {"gate": 1, "truncated": 1},
        "checked": 8,
        "right": 6,
        "checked_prompts": 10,
        "possible": 9,
        "expected": 4.5,
    }


@pytest.fixture(scope="session")
def report(
    trainings: dict[str, dict[str, Any]],
    table: tuple[TableRow, ...],
    comparisons: tuple[ComparisonRow, ...],
    wins: list[dict[str, Any]],
    agreement: dict[str, Any],
    quality: dict[str, Any],
    winners: dict[str, Any],
    examples: list[Example],
    scores: dict[System, list[ScoreRow]],
) -> ReportData:
    history = [{"step": s, "train/sft_gt": 2.0 / s, "train/kl_gt": 1.0 / s} for s in range(1, 60)]
    counts = {"num_positions": 200, "num_aligned": 150, "num_lossy": 10, "num_fallback": 0}
    return ReportData(
        title="Two sources & a target",
        table=table,
        comparisons=comparisons,
        wins=wins,
        agreement=agreement,
        winners=winners,
        scorers=quality,
        histories={"sft": history, "profuser": history[30:]},
        coverage={"solver": counts},
        trainings=trainings,
        examples=select_examples(examples, scores, per_family=2),
        provenance={"profile": "embedded", "commit": "0123456789abcdef", "date": "2026-01-31", "torch": "2.13"},
        reproduce=["dvc repro"],
        notes=["A note for the reader."],
    )
