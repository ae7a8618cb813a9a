"""Tables of the fusion half: exposure of each method, scorer quality, wins, alignment coverage, regimes of data compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.fusion.claims import MAIN_METHOD
from models.evaluation.fusion.scores import ALL_FAMILIES, ComparisonRow, TableRow, higher_is_better
from models.reporting.formatting import MINUS, fixed, format_interval, format_metric, format_share, metric_title
from models.reporting.grids import Cell, Grid

BEST_SOURCE = "best single source"
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
        exposure = record["exposure"]
        cells = [Cell(name), Cell(f"{exposure['total_steps']:,}"), Cell(f"{exposure['extra_steps']:,}")]
        for mode in ("ground_truth", "winners"):
            figures = exposure[mode]
            cells += [Cell(fixed(figures["passes"], 2)), *(Cell(fixed(figures[k], 1)) for k in ("lr_sum", "weighted_lr_sum"))]
        rows.append(tuple(cells))
    budgets = dict.fromkeys(str(record["budget"]) for record in records.values())
    notes = (
        *(f"Budget `{budget}`: {BUDGETS[budget]}" for budget in budgets),
        "Σ lr: learning rates of the steps in which the mode has a weight, added up in units of `fusion.lr`; by weight: each "
        "step counted by the mode's share of w1 + w2.",
        *dict.fromkeys(f"Prompts: {note}." for record in records.values() if (note := prompts_note(record))),
    )
    return Grid("what each method was trained on", tuple(header), tuple(rows), notes=notes)


def prompts_note(record: Mapping[str, Any]) -> str:
    """Say how many prompts of each kind a training had; empty where each has a ground truth."""
    alone = record["exposure"].get("prompts_only", 0)
    if not alone:
        return ""
    truths, winners = record["ground_truth"]["samples"], record["response"]["samples"]
    return (
        f"{truths:,} with a ground truth, {winners:,} with a winning answer; {alone:,} of the latter are without a ground truth "
        "to train on and take part in inference mode only"
    )


def token_weight_grid(records: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """Return the phases that train both modes, with a winner's token weight relative to one of the ground truth; None if none do.

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
    "mode": "Token weight: of a winner's token, relative to one of the ground truth. Each mode's loss is divided by its own "
    "tokens, so it is w1 / w2 times the ratio of the tokens: the shorter the winners, the more each of their tokens weighs.",
    "tokens": "Token weight: of a winner's token, relative to one of the ground truth. Both losses are divided by all tokens "
    "of the step, so it is w1 / w2.",
}


REASONS = {
    "empty": "every answer was empty",
    "truncated": "no answer was finished",
    "abstained": "no scorer voted",
    "gate": "the vote was not clear enough",
    "wrong": "every answer was wrong, as the oracle knows",
}
_PICKERS = {"vote": "the vote", "any_source": "any source", "oracle": "the best possible choice"}


def scorer_grid(quality: Mapping[str, Any]) -> Grid:
    """Return scorer × share of pairs ranked right and worth of its picks; below them the vote and its bounds."""
    body = []
    for row in quality["scorers"]:
        interval = "" if row["low"] is None else f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        ranked = Cell("by definition") if row["by_definition"] else Cell(_percent(row["accuracy"]), interval)
        sees = Cell("yes" if row["sees_truth"] else "no")
        counts = (Cell(f"{row['num_pairs']:,}"), Cell(_percent(row["picks_right"])), Cell(f"{row['num_prompts']:,}"))
        body.append((Cell(row["scorer"], row["kind"]), sees, Cell(row["against"]), ranked, *counts))
    for row in quality["picks"]:
        for key, name in _PICKERS.items():
            figures = (Cell(""), Cell(""), Cell(_percent(row[key])), Cell(f"{row['num_prompts']:,}"))
            body.append((Cell(name), Cell(""), Cell(row["against"]), *figures))
    header = ("scorer", "sees ground truth", "against", "pairs ranked right, %", "pairs", "worth of its pick, %", "prompts")
    notes = [
        "Pairs: two answers to one prompt of which one is better, by the row's check or, where it has none, by chrF to the "
        "ground truth. Worth: 100 for a right answer, 0 for a wrong one; or the chrF."
    ]
    return Grid("scorers on the validation split", header, tuple(body), num_text=3, notes=tuple(notes))


def winner_sentence(winners: Mapping[str, Any]) -> str:
    """Say how many training prompts have a winner in inference mode, why others have none, and how many winners are right."""
    text = f"{winners['winners']:,} of {winners['prompts']:,} prompts have a winner in inference mode"
    if winners["cut"]:
        text += f", {winners['cut']:,} of them an answer that was cut"
    if winners["without_winner"]:
        reasons = [f"on {number:,} {REASONS[reason]}" for reason, number in sorted(winners["without_winner"].items())]
        text += f"; the others take no part in it: {', '.join(reasons)}"
    if not winners["checked"]:
        return f"{text}."
    right, prompts = winners["right"] / winners["checked"], max(winners["checked_prompts"], 1)
    return (
        f"{text}. {_percent(right)} % of the {winners['checked']:,} winners that can be checked are right; a source drawn at "
        f"random would be on {_percent(winners['expected'] / prompts)} % of the prompts, the best choice on "
        f"{_percent(winners['possible'] / prompts)} %."
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


MODES = ("training", "inference")


def win_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Return family and mode × source: share of wins and their number; the largest of each row marked."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    lines: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["family"], row["mode"]), {})[row["source"]] = row
    body = []
    for (family, mode), line in lines.items():
        most = max(row["wins"] for row in line.values())
        figures = [Cell(format_share(r["share"]), f"{r['wins']:,}", "best" if r["wins"] == most else "") for r in line.values()]
        body.append((Cell(family), Cell(f"{mode} mode"), *figures, Cell(f"{next(iter(line.values()))['num_examples']:,}")))
    return Grid("wins per source", ("family", "mode", *sources, "examples"), tuple(body), num_text=2)


def agreement_grid(agreement: Mapping[str, Any]) -> Grid:
    """Return family × share of the examples that the same source wins in both modes."""
    rows = [("all", agreement["overall"]), *agreement["by_family"].items()]
    body = tuple(
        (Cell(name), Cell(_share(row["share"])), Cell(f"{row['agreeing']:,}"), Cell(f"{row['num_examples']:,}"))
        for name, row in rows
    )
    return Grid("same winner in both modes", ("family", "share", "agreeing", "examples"), body)


def pair_grid(agreement: Mapping[str, Any]) -> Grid:
    """Return ordered pair × share of the examples where the first beats the second, per mode, and the change between them."""
    body = tuple(
        (
            Cell(f"{row['a']} beats {row['b']}"),
            *(Cell(_share(row[f"{mode}_share"]), _ties(row[f"{mode}_tie_share"])) for mode in MODES),
            Cell(_change(row)),
        )
        for row in agreement["pairwise"]
    )
    return Grid("one source against another", ("pair", "training mode", "inference mode", "change, points"), body)


def coverage_shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Split the target's positions (`models.tokenization.alignment.Coverage.as_dict`) into shares that add up to 1."""
    total = max(counts["num_positions"], 1)
    shares = {part: counts[f"num_{part}"] / total for part in ("aligned", "fallback", "lossy")}
    return shares | {"none": max(0.0, 1 - sum(shares.values()))}


def coverage_grid(coverage: Mapping[str, Mapping[str, float]]) -> Grid:
    """Return source × what became of the target's positions it was to teach, and how many of its texts have no end."""
    body = tuple(
        (
            Cell(source),
            *(Cell(f"{100 * share:.1f} %") for share in coverage_shares(counts).values()),
            Cell(f"{counts['num_positions']:,.0f}"),
            Cell(f"{counts.get('num_cut', 0):,.0f}"),
        )
        for source, counts in coverage.items()
    )
    header = ("source", "taught by the source", "one-hot on the next token", "lossy", "no teacher", "positions", "cut texts")
    return Grid("alignment coverage", header, body)


def agreement_sentence(agreement: Mapping[str, Any]) -> str:
    """State the paper's observation with this run's figures: the pair whose win rates differ most between the modes.

    Returns an empty string if no pair was compared in both modes.
    """
    pairs = [row for row in agreement["pairwise"] if None not in (row["training_share"], row["inference_share"])]
    if not pairs:
        return ""
    row = max(pairs, key=lambda r: r["training_share"] - r["inference_share"])
    training, inference = (format_share(row[f"{mode}_share"]) for mode in MODES)
    return (
        f"{row['a']} beats {row['b']} on {training} of the examples in training mode and on {inference} in inference mode. "
        f"Both modes name the same winner on {_share(agreement['overall']['share'])} of the examples."
    )


def _share(share: float | None) -> str:
    return "–" if share is None else format_share(share)


def _ties(share: float | None) -> str:
    return f"{format_share(share)} ties" if share else ""


def _change(row: Mapping[str, Any]) -> str:
    if row["training_share"] is None or row["inference_share"] is None:
        return "–"
    return fixed(100 * (row["inference_share"] - row["training_share"]), 0, signed=True)


@dataclass(frozen=True, slots=True)
class RegimeScores:
    """What one regime of data came out at.

    Attributes:
        name: One phrase for the column: the profile and how much data of each kind it has.
        table: Its results table.
        comparisons: Its paired differences.
    """

    name: str
    table: Sequence[TableRow]
    comparisons: Sequence[ComparisonRow]


def regime_grid(regimes: Sequence[RegimeScores], *, metric: str) -> Grid:
    """Return systems × regimes of one metric over all families, then the paired differences of the main method.

    Systems that only some of the regimes have are left empty in the others. Of the sources the one is shown that the claims
    compare with: the best on the validation split.
    """
    columns = [_regime_cells(regime, metric) for regime in regimes]
    names = dict.fromkeys(name for column in columns for name in column)
    differences = [name for name in names if MINUS in name]
    ordered = [*(name for name in names if MINUS not in name), *differences]
    body = tuple((Cell(name), *(column.get(name, Cell("–")) for column in columns)) for name in ordered)
    nums = {row.num for regime in regimes for row in regime.table if (row.metric, row.family) == (metric, ALL_FAMILIES)}
    count = f", n = {nums.pop():,} each" if len(nums) == 1 else ""
    return Grid(f"{metric_title(metric)}{count}", ("", *(regime.name for regime in regimes)), body)


def _regime_cells(regime: RegimeScores, metric: str) -> dict[str, Cell]:
    rows = [row for row in regime.table if (row.metric, row.family) == (metric, ALL_FAMILIES)]
    pairs = [row for row in regime.comparisons if (row.metric, row.family, row.a.name) == (metric, ALL_FAMILIES, MAIN_METHOD)]
    chosen = {row.b for row in pairs if row.b.kind == "source"}
    top = (max if higher_is_better(metric) else min)((row.value for row in rows), default=None)
    cells = {}
    for row in rows:
        if row.system.kind == "method" or row.system in chosen:
            name = row.system.name if row.system.kind == "method" else BEST_SOURCE
            interval = format_interval(metric, row.low, row.high)
            cells[name] = Cell(format_metric(metric, row.value), interval, "best" if row.value == top else "")
    for pair in pairs:
        if pair.b.kind != "untrained":
            against = BEST_SOURCE if pair.b.kind == "source" else pair.b.name
            interval = format_interval(metric, pair.low, pair.high, signed=True)
            figure = f"{format_metric(metric, pair.value, signed=True)} ({pair.verdict})"
            cells[f"{MAIN_METHOD} {MINUS} {against}"] = Cell(figure, interval, pair.verdict)
    return cells
