"""How sure a vote must be for its winner to be taught: `teach.rewards.accept`."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import ParamsError, Problem
from models.fusion.advantage import Vote
from models.params.teach import VoteParams

LEAST_ACCEPTED = 20
"""Winners that a calibrated threshold keeps at least (all, where there are fewer): the quality of a handful says little."""

Rewards = Mapping[str, Mapping[str, float]]
"""Scorer → candidate → reward, on one prompt; a scorer that abstains is absent."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a scorer's rewards on the validation split."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold on the combined score of winners, chosen on the validation split.

    Attributes:
        scales: Scorer → scale of its rewards.
        threshold: Least combined score of a winner that is taught.
        quality: Mean quality of the validation winners at or above it, at least `target`.
        target: `teach.rewards.accept_target`.
        num_accepted: Those winners.
        num_winners: All validation winners.
    """

    scales: Mapping[str, Scale]
    threshold: float
    quality: float
    target: float
    num_accepted: int
    num_winners: int

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote."""
        row = json.loads(path.read_text(encoding="utf-8"))
        return cls(**(row | {"scales": {name: Scale(**scale) for name, scale in row["scales"].items()}}))


def is_accepted(
    result: Vote, rewards: Rewards, texts: Mapping[str, str], *, rules: VoteParams, calibration: Calibration | None
) -> bool:
    """Say whether the winner of a vote is taught.

    Args:
        result: The vote.
        rewards: What was voted with.
        texts: Candidate → answer: equal answers do not compete with each other.
        rules: The gate.
        calibration: For the gate `calibrated`.
    """
    if rules.accept == "majority":
        return 2 * result.votes[result.winner] > result.num_voters
    if rules.accept == "margin":
        others = [z for candidate, z in result.mean_z.items() if texts[candidate] != texts[result.winner]]
        return not others or result.mean_z[result.winner] - max(others) >= rules.accept_margin
    if rules.accept == "calibrated":
        if calibration is None:
            raise ValueError("the gate `calibrated` needs a calibration")
        return combined_score(rewards, result.winner, calibration.scales) >= calibration.threshold
    return True


def fit_scales(prompts: Iterable[Rewards]) -> dict[str, Scale]:
    """Return every scorer's scale over all candidates of many prompts."""
    columns: dict[str, list[float]] = {}
    for rewards in prompts:
        for scorer, row in rewards.items():
            columns.setdefault(scorer, []).extend(row.values())
    return {scorer: _scale(values) for scorer, values in columns.items() if values}


def combined_score(rewards: Rewards, candidate: str, scales: Mapping[str, Scale]) -> float:
    """Return the mean over the voting scorers of (reward − mean) / deviation: comparable across prompts.

    A scorer that says nothing on the validation split (no scale, or none but equal rewards) counts 0.
    """
    terms = []
    for scorer, row in rewards.items():
        scale = scales.get(scorer)
        terms.append((row[candidate] - scale.mean) / scale.deviation if scale is not None and scale.deviation > 0 else 0.0)
    return math.fsum(terms) / len(terms)


def choose_threshold(
    scores: Sequence[float], qualities: Sequence[float], *, target: float, scales: Mapping[str, Scale]
) -> Calibration:
    """Choose the lowest threshold at which the winners' mean quality reaches the target.

    Args:
        scores: Combined score of each validation winner.
        qualities: Its quality, 0 to 1.
        target: Wanted mean.
        scales: Kept beside the threshold.

    Raises:
        ParamsError: No threshold that keeps `LEAST_ACCEPTED` winners reaches it.
    """
    ranked = sorted(zip(scores, qualities, strict=True), reverse=True)
    least = min(LEAST_ACCEPTED, len(ranked))
    best: tuple[float, int] = (0.0, 0)
    chosen: Calibration | None = None
    total = 0.0
    for place, (score, quality) in enumerate(ranked, start=1):
        total += quality
        last_of_equals = place == len(ranked) or ranked[place][0] < score
        if place < least or not last_of_equals:
            continue
        best = max(best, (total / place, place))
        if total / place >= target:
            chosen = Calibration(scales, score, total / place, target, place, len(ranked))
    if chosen is None:
        hint = f"The best on validation is {best[0]:.3f}, of {best[1]} of {len(ranked)} winners. Lower it, or add better scorers."
        raise ParamsError(
            "Invalid parameters",
            [Problem("`teach.rewards.accept_target`", "must be within reach of the scorers", f"{target:g}", hint)],
        )
    return chosen


def _scale(values: Sequence[float]) -> Scale:
    mean = math.fsum(values) / len(values)
    return Scale(mean, math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values)))
