"""How good the voters are and what the vote makes of the answers, in words and figures."""

from collections.abc import Mapping
from typing import Any

from models.reporting.grids import Cell, Grid

REASONS = {
    "empty": "nobody said anything",
    "truncated": "no answer was finished",
    "abstained": "no scorer voted",
    "gate": "the vote was not clear enough",
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
        told = [f"on {number:,} {REASONS[reason]}" for reason, number in sorted(winners["without_winner"].items())]
        text += f"; the others take no part in it: {', '.join(told)}"
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
