"""Advantage evaluation: which source wins an example.

Min-CE in training mode (eq. 1 of ProFuser), a vote of scorers in inference mode (eq. 2), and a gate on the confidence of that
vote.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from models.errors import NumericsError, ParamsError, Problem, SignalError
from models.params.teach import VoteParams
from models.schema import SourceScore

Unit = Literal["byte", "token"]
TieRule = Literal["votes", "reward", "ce", "order"]


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote among `num_voters` scorers.

    Attributes:
        winner: The best candidate.
        votes: Candidate → number of scorers that rank it first.
        mean_z: Candidate → mean over the scorers of its z-scored reward.
        tie: The rule that decided it.
    """

    winner: str
    votes: Mapping[str, int]
    mean_z: Mapping[str, float]
    tie: TieRule
    num_voters: int


def candidate_key(source: str, sample: int) -> str:
    """Return the name of a source's answer, `source#sample`."""
    return f"{source}#{sample}"


def split_candidate(key: str) -> tuple[str, int]:
    """Return (source, sample) of `candidate_key`."""
    source, _, sample = key.rpartition("#")
    return source, int(sample)


def score_value(score: SourceScore, unit: Unit) -> float:
    """Return cross-entropy per byte of the text or per token of the source, nats (the end token counts in the sum).

    Per byte is fair across tokenizers: all sources share the denominator. An empty text counts as one byte.
    """
    return score.nll / max(score.num_bytes if unit == "byte" else score.num_tokens, 1)


def min_ce(scores: Mapping[str, SourceScore], *, unit: Unit, order: Sequence[str]) -> str:
    """Return the source with the lowest cross-entropy on a text (M^MinCE, eq. 1).

    A source whose tokenizer cannot reproduce the text cannot win: it was scored on another text. Ties are broken by
    `order`, which names every source once.

    Raises:
        SignalError: No source reproduces the text, or `order` and `scores` differ.
        NumericsError: A cross-entropy is not finite.
    """
    _require_same("sources", scores, order)
    values = {source: score_value(scores[source], unit) for source in order}
    _require_finite("cross-entropy of source", values)
    able = [source for source in order if scores[source].lossless]
    if not able:
        raise SignalError(
            f"At least one source must reproduce the text byte for byte, but none of {list(order)} does. "
            "Add a source with byte fallback, or drop the example."
        )
    return min(able, key=values.__getitem__)  # the first of equals


def vote(rewards: Mapping[str, Mapping[str, float]], *, own_ce: Mapping[str, float], order: Sequence[str]) -> Vote:
    """Return the candidate with the most votes (RM_Vote, eq. 2).

    Every scorer votes for the candidate it scores highest, and for all of them when several share its highest score (the same
    text of two sources). Ties are broken by the higher mean z-scored reward, then the lower own cross-entropy, then
    `order`. With one scorer this is a plain argmax.

    Args:
        rewards: Scorer → candidate → reward, higher is better.
        own_ce: Candidate → cross-entropy of its source on it.
        order: Every candidate once.

    Raises:
        SignalError: There is no scorer, or the candidates of `rewards`, `own_ce` and `order` differ.
        NumericsError: A reward or cross-entropy is not finite.
    """
    if not rewards or not order:
        raise SignalError(f"A vote must have a scorer and a candidate, but has {len(rewards)} and {len(order)}.")
    _require_same("candidates of `own_ce`", own_ce, order)
    _require_finite("own cross-entropy of candidate", own_ce)
    for scorer, row in rewards.items():
        _require_same(f"candidates of scorer `{scorer}`", row, order)
        _require_finite(f"reward of scorer `{scorer}` for candidate", row)
    votes = {c: sum(row[c] == max(row.values()) for row in rewards.values()) for c in order}
    columns = [_z_scores([row[c] for c in order]) for row in rewards.values()]
    mean_z = {c: math.fsum(column[i] for column in columns) / len(columns) for i, c in enumerate(order)}
    # Rounding: two candidates whose rewards mirror each other are equal, whatever the last bit of their z-scores.
    keys: tuple[tuple[TieRule, Mapping[str, float]], ...] = (
        ("votes", {c: -votes[c] for c in order}),
        ("reward", {c: -round(mean_z[c], 9) for c in order}),
        ("ce", own_ce),
    )
    left = list(order)
    for rule, key in keys:
        best = min(key[c] for c in left)
        left = [c for c in left if key[c] == best]
        if len(left) == 1:
            return Vote(left[0], votes, mean_z, rule, len(rewards))
    return Vote(left[0], votes, mean_z, "order", len(rewards))


def _z_scores(values: Sequence[float]) -> list[float]:
    """Return (x − mean) / population standard deviation; zeros when all are equal."""
    if min(values) == max(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))
    return [(x - mean) / deviation for x in values] if deviation > 0 else [0.0] * len(values)


def _require_same(what: str, found: Mapping[str, object], order: Sequence[str]) -> None:
    if len(set(order)) != len(order) or set(found) != set(order):
        raise SignalError(f"The {what} must be {sorted(order)}, each once, but are {sorted(found)}.")


def _require_finite(what: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NumericsError(f"The {what} `{name}` must be finite, but is {value}. Compute it again or remove it.")


LEAST_ACCEPTED = 20
"""Minimum number of winners kept by a calibrated threshold (all, if fewer): smaller samples are too noisy."""

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
        threshold: Minimum combined score of a winner used for training.
        quality: Mean quality of the validation winners at or above it, at least `target`.
        target: `teach.rewards.accept_target`.
        num_accepted: Number of those winners.
        num_winners: Number of all validation winners.
    """

    scales: Mapping[str, Scale]
    threshold: float
    quality: float
    target: float
    num_accepted: int
    num_winners: int

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote."""
        row = json.loads(path.read_text(encoding="utf-8"))
        return cls(**(row | {"scales": {name: Scale(**scale) for name, scale in row["scales"].items()}}))


def is_accepted(
    result: Vote, rewards: Rewards, texts: Mapping[str, str], *, rules: VoteParams, calibration: Calibration | None
) -> bool:
    """Return whether the winner of a vote is used for training.

    Args:
        result: The vote.
        rewards: The rewards of the vote.
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

    A scorer that does not discriminate on the validation split (no scale, or equal rewards) counts 0.
    """
    terms = []
    for scorer, row in rewards.items():
        scale = scales.get(scorer)
        terms.append((row[candidate] - scale.mean) / scale.deviation if scale is not None and scale.deviation > 0 else 0.0)
    return math.fsum(terms) / len(terms)


def choose_threshold(
    scores: Sequence[float], qualities: Sequence[float], *, target: float, scales: Mapping[str, Scale], of: str = ""
) -> Calibration:
    """Choose the lowest threshold at which the winners' mean quality reaches the target.

    Args:
        scores: Combined score of each validation winner.
        qualities: Its quality, 0 to 1.
        target: Target mean quality.
        scales: Stored with the threshold.
        of: Which scorers voted, for the error: a clause that follows their name, or all of them.

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
            [Problem("`teach.rewards.accept_target`", f"must be within reach of the scorers{of}", f"{target:g}", hint)],
        )
    return chosen


def _scale(values: Sequence[float]) -> Scale:
    mean = math.fsum(values) / len(values)
    return Scale(mean, math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values)))
