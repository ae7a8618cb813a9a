"""Values that an arm chooses from: each is trained with the arm's first seed and scored on the validation split."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Protocol

from flows.ablation.kept import claimed, drop_outputs, identity, sharing
from flows.ablation.plan_file import Item, LoadedPlan, candidates
from flows.context import StageContext
from flows.evaluate import evaluated
from models.files import read_record, write_atomic
from tasks.evaluation import ROWS

if TYPE_CHECKING:
    from models.evaluation.fusion.scores import ScoreRow


class Train(Protocol):
    """Runs the stages of a run."""

    def __call__(self, ctx: StageContext, *, until: str) -> None:
        """Run them up to one."""


def known_choice(loaded: LoadedPlan, regime: str, arm: str) -> dict[str, Any] | None:
    """Return the chosen values; nothing where there is nothing to choose, None where it is not yet decided."""
    if not loaded.plan.grid_of(arm):
        return {}
    row = read_record(_path(loaded, regime, arm))
    return dict(row["chosen"]) if row is not None and row.get("key") == _key(loaded, regime, arm) else None


def chosen_values(loaded: LoadedPlan, regime: str, arm: str, *, train: Train, keep: bool) -> dict[str, Any]:
    """Return the values an arm trains with in a regime, and decide them if that has not been done.

    Of candidates with equal scores the first wins. Another process that decides the same is waited for.
    """
    found = known_choice(loaded, regime, arm)
    if found is not None:
        return found
    with claimed(loaded.experiment, regime, f"grid-{arm}", wait=True):
        found = known_choice(loaded, regime, arm)
        if found is not None:
            return found
        rows = [_candidate(loaded, regime, arm, number, train=train) for number in range(len(_candidates(loaded, arm)))]
        marks = ranks(rows, loaded.plan.choose_by)
        best = max(range(len(rows)), key=marks.__getitem__)
        chosen = dict(rows[best]["values"])
        content = {"key": _key(loaded, regime, arm), "chosen": chosen, "split": "valid", "candidates": rows}
        write_atomic(_path(loaded, regime, arm), json.dumps(content, indent=1, ensure_ascii=False))
        for number in range(len(rows)):
            # The chosen one's weights are those of the run with the first seed, which comes next.
            if not keep and number != best:
                drop_outputs(_context(loaded, regime, arm, number))
    return chosen


def _candidate(loaded: LoadedPlan, regime: str, arm: str, number: int, *, train: Train) -> Mapping[str, Any]:
    """Train one candidate and return its values with its scores on the validation split."""
    ctx = sharing(_context(loaded, regime, arm, number))
    train(ctx, until="fuse")
    return {"values": _candidates(loaded, arm)[number], **validation_scores(ctx)}


def validation_rows(ctx: StageContext) -> "list[ScoreRow]":
    """Return the trained method's rows on the validation split, without the answers' text."""
    from models.evaluation.fusion.scores import read_scores

    (made,) = evaluated(ctx, [{"name": ctx.params.methods[0], "kind": "method", "target": ctx.params.fusion.targets[0]}], "valid")
    return list(read_scores(made.path / ROWS, with_text=False))


def validation_scores(ctx: StageContext) -> dict[str, float]:
    """Return accuracy, bits per byte and rewards of the trained method on the validation split, over all families.

    Rewards are those of scorers that see no ground truth.
    """
    from models.evaluation.fusion.comparison import aggregate
    from models.evaluation.fusion.scores import ALL_FAMILIES, REWARD_PREFIX, System

    blind = {REWARD_PREFIX + scorer.name for scorer in ctx.params.teach.rewards.scorers if not scorer.sees_truth}
    rows = aggregate({System(ctx.params.methods[0], "method", ctx.params.fusion.targets[0]): validation_rows(ctx)})
    wanted = {"accuracy", "bits_per_byte", *blind}
    return {row.metric: row.value for row in rows if row.family == ALL_FAMILIES and row.metric in wanted}


def ranks(rows: Sequence[Mapping[str, Any]], first: str) -> list[tuple[float, ...]]:
    """Return how good each candidate is: by the first figure, then by the others; a figure that there is not counts 0.

    Rewards of several scorers are on scales of their own: each is z-scored over the candidates, and their mean counts.
    """
    marks = {
        "accuracy": [float(row.get("accuracy", 0.0)) for row in rows],
        "bits_per_byte": [-float(row.get("bits_per_byte", 0.0)) for row in rows],
    }
    if first == "reward":
        names = sorted({name for row in rows for name in row if name.startswith("reward/")})
        columns = [[float(row[name]) for row in rows] for name in names]
        scaled = [[(value - fmean(column)) / (pstdev(column) or 1.0) for value in column] for column in columns]
        marks["reward"] = [fmean(parts) for parts in zip(*scaled, strict=True)] or [0.0] * len(rows)
    order = [first, *(name for name in marks if name != first)]
    return list(zip(*(marks[name] for name in order), strict=True))


def _candidates(loaded: LoadedPlan, arm: str) -> list[dict[str, Any]]:
    return candidates(loaded.plan.grid_of(arm))


def _context(loaded: LoadedPlan, regime: str, arm: str, number: int) -> StageContext:
    item = Item(regime, arm, loaded.plan.seeds_of(arm)[0])
    return loaded.context(item, chosen=_candidates(loaded, arm)[number], place=f"grid-{number}")


def _key(loaded: LoadedPlan, regime: str, arm: str) -> str:
    """Return the identity of a choice: that of its candidates and of the figure that decides."""
    keys = [identity(_context(loaded, regime, arm, number)) for number in range(len(_candidates(loaded, arm)))]
    return f"{loaded.plan.choose_by}:{'-'.join(key[:16] for key in keys)}"


def _path(loaded: LoadedPlan, regime: str, arm: str) -> Path:
    return loaded.root / "artifacts" / loaded.experiment / regime / f"grid-{arm}.json"
