"""What each method was trained on, in numbers: passes, learning rates, and what one token of each mode weighs."""

from collections.abc import Mapping
from typing import Any

from models.reporting.formatting import fixed
from models.reporting.grids import Cell, Grid

BUDGETS = {
    "steps": "All presets take the same optimiser steps under one learning-rate curve; what they spend on each mode differs.",
    "ground_truth": "All methods pass over the ground truth equally often, at the same sum of learning rates. Steps with winning "
    "answers alone come on top.",
}


def exposure_grid(records: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Return method × passes and learning rates of each mode.

    Args:
        records: Name → record of the training (`FusionRecord.to_json`).
    """
    header = ["method", "steps", "of them extra"]
    for mode in ("ground truth", "winners"):
        header += [f"{mode}: passes", f"{mode}: Σ lr", f"{mode}: Σ lr, by weight"]
    rows = []
    for name, record in records.items():
        told = record["exposure"]
        cells = [Cell(name), Cell(f"{told['total_steps']:,}"), Cell(f"{told['extra_steps']:,}")]
        for mode in ("ground_truth", "winners"):
            figures = told[mode]
            cells += [Cell(fixed(figures["passes"], 2)), *(Cell(fixed(figures[k], 1)) for k in ("lr_sum", "weighted_lr_sum"))]
        rows.append(tuple(cells))
    budgets = dict.fromkeys(str(record["budget"]) for record in records.values())
    notes = (
        *(f"Budget `{budget}`: {BUDGETS[budget]}" for budget in budgets),
        "Σ lr: learning rates of the steps in which the mode has a weight, added up in units of `fusion.lr`; by weight: each "
        "step counted by the mode's share of w1 + w2.",
    )
    return Grid("what each method was trained on", tuple(header), tuple(rows), notes=notes)


def token_weight_grid(records: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """Return the phases that train both modes, with what a winner's token weighs beside one of the ground truth; None if none do.

    Args:
        records: Name → record of the training (`FusionRecord.to_json`).
    """
    rows, rules = [], []
    for name, record in records.items():
        for phase in record["phases"]:
            if phase["token_weight"] is None:
                continue
            rules.append(record["normalise"])
            rows.append(
                (
                    Cell(name),
                    Cell(str(phase["number"])),
                    Cell(f"{phase['w_infer']:g}"),
                    Cell(f"{phase['w_train']:g}"),
                    Cell(f"{phase['infer_tokens']:,}"),
                    Cell(f"{phase['train_tokens']:,}"),
                    Cell(fixed(phase["token_weight"], 3)),
                )
            )
    if not rows:
        return None
    header = ("method", "phase", "w1 (winners)", "w2 (ground truth)", "winners' tokens", "ground-truth tokens", "token weight")
    return Grid("what a winner's token weighs", header, tuple(rows), notes=tuple(_RULES[rule] for rule in dict.fromkeys(rules)))


_RULES = {
    "mode": "Token weight: a winner's token beside one of the ground truth. Each mode's loss is divided by its own tokens, so it "
    "is w1 / w2 times the ratio of the tokens: the shorter the winners, the more each of their tokens weighs.",
    "tokens": "Token weight: a winner's token beside one of the ground truth. Both losses are divided by all tokens of the step, "
    "so it is w1 / w2.",
}
