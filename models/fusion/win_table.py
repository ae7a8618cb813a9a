"""Win counts by mode, and agreement of the two modes (the 68 % against 45 % of ProFuser)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from models.schema import Advantage

Mode = Literal["training", "inference"]
_ALL = "all"
NOBODY = "(nobody)"
"""Placeholder for prompts without a winner; not a valid source name."""


def win_table(advantages: Iterable[Advantage], sources: Sequence[str]) -> list[dict[str, Any]]:
    """Count wins.

    Returns:
        Rows {family, mode (`training` | `inference`), source, wins, num_examples, share}: the family "all" first, then the
        families by name; within one, modes and then sources in the order given. If prompts have no winner in inference mode,
        `NOBODY` follows the sources. Prompts without a ground truth are examples of inference mode only; shares of nothing are 0.
    """
    wins: Counter[tuple[str, Mode, str]] = Counter()
    totals: Counter[tuple[str, Mode]] = Counter()
    for advantage in advantages:
        for family in (_ALL, advantage.family):
            totals[family, "inference"] += 1
            wins[family, "inference", advantage.infer_winner or NOBODY] += 1
            if advantage.train_winner is not None:
                totals[family, "training"] += 1
                wins[family, "training", advantage.train_winner] += 1
    families = [_ALL, *sorted({family for family, _ in totals} - {_ALL})] if totals else []
    modes: tuple[Mode, ...] = ("training", "inference")
    columns = [*sources, NOBODY] if wins[_ALL, "inference", NOBODY] else list(sources)
    return [
        {
            "family": family,
            "mode": mode,
            "source": source,
            "wins": wins[family, mode, source],
            "num_examples": totals[family, mode],
            "share": wins[family, mode, source] / max(totals[family, mode], 1),
        }
        for family in families
        for mode in modes
        for source in columns
    ]


def mode_agreement(advantages: Iterable[Advantage], sources: Sequence[str]) -> dict[str, Any]:
    """Compare the winners of the two modes.

    Returns:
        `overall` {num_examples, agreeing, share}; `by_family` the same per family; `confusion` {sources, counts}, counts[i][j]
        examples that source i wins in training mode and source j in inference mode; `pairwise` one row per ordered pair:
        {a, b, and for each mode num_<mode>, <mode>_share where a beats b, <mode>_tie_share}. Shares of nothing are None. An
        example without a ground truth, or without a winner in inference mode, is counted by `pairwise` alone: in inference mode,
        if there was a vote on it.
    """
    agree: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    confusion: Counter[tuple[str, str]] = Counter()
    duels: Counter[tuple[str, str, Mode, int]] = Counter()
    for advantage in advantages:
        _count_duels(duels, advantage, sources)
        if advantage.infer_winner is None or advantage.train_winner is None:
            continue
        for family in (_ALL, advantage.family):
            totals[family] += 1
            agree[family] += advantage.train_winner == advantage.infer_winner
        confusion[advantage.train_winner, advantage.infer_winner] += 1
    counts = {family: _agreement(agree[family], totals[family]) for family in sorted(totals)}
    return {
        "overall": counts.pop(_ALL, _agreement(0, 0)),
        "by_family": counts,
        "confusion": {"sources": list(sources), "counts": [[confusion[a, b] for b in sources] for a in sources]},
        "pairwise": [_pair(duels, a, b) for a in sources for b in sources if a != b],
    }


def _agreement(agreeing: int, total: int) -> dict[str, Any]:
    return {"num_examples": total, "agreeing": agreeing, "share": agreeing / total if total else None}


def _count_duels(duels: Counter[tuple[str, str, Mode, int]], advantage: Advantage, sources: Sequence[str]) -> None:
    """Add one example's comparisons of every ordered pair: 1 where the first is better, 0 equal, −1 worse."""
    training = {s: (-ce, 0.0) for s, ce in advantage.train_scores.items()}
    ranks: tuple[tuple[Mode, dict[str, tuple[float, float]]], ...] = (
        ("training", training),
        ("inference", _inference_ranks(advantage, sources)),
    )
    for mode, rank in ranks:
        present = [source for source in sources if source in rank]
        for a in present:
            for b in present:
                if a != b:
                    duels[a, b, mode, (rank[a] > rank[b]) - (rank[a] < rank[b])] += 1


def _inference_ranks(advantage: Advantage, sources: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return source → (votes, mean z-scored reward) of its best answer; a source without one that could win ranks below all."""
    if not advantage.infer_votes:
        return {}
    ranks: dict[str, tuple[float, float]] = dict.fromkeys(sources, (-1.0, 0.0))
    for key in {**advantage.infer_votes, **advantage.infer_rewards}:
        source = key.rpartition("#")[0]
        rank = (float(advantage.infer_votes.get(key, 0)), round(advantage.infer_rewards.get(key, 0.0), 9))
        ranks[source] = max(rank, ranks.get(source, rank))
    return ranks


def _pair(duels: Counter[tuple[str, str, Mode, int]], a: str, b: str) -> dict[str, Any]:
    row: dict[str, Any] = {"a": a, "b": b}
    modes: tuple[Mode, ...] = ("training", "inference")
    for mode in modes:
        better, equal, worse = (duels[a, b, mode, outcome] for outcome in (1, 0, -1))
        total = better + equal + worse
        row[f"num_{mode}"] = total
        row[f"{mode}_share"] = better / total if total else None
        row[f"{mode}_tie_share"] = equal / total if total else None
    return row
