"""Who is best on one example: Min-CE in training mode (eq. 1 of ProFuser), a vote of scorers in inference mode (eq. 2)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import NumericsError, SignalError
from models.fusion.win_table import mode_agreement, win_table
from models.schema import SourceScore

__all__ = [
    "TieRule",
    "Unit",
    "Vote",
    "candidate_key",
    "min_ce",
    "mode_agreement",
    "score_value",
    "split_candidate",
    "vote",
    "win_table",
]

Unit = Literal["byte", "token"]
TieRule = Literal["votes", "reward", "ce", "order"]


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote among `num_voters` scorers.

    Attributes:
        winner: The best candidate.
        votes: Candidate → scorers that name it best.
        mean_z: Candidate → mean over the scorers of its z-scored reward.
        tie: The rule that settled it.
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

    A source whose tokenizer cannot reproduce the text cannot win: it was scored on another text. Equal sources are settled by
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
    """Return the answer most scorers name best (RM_Vote, eq. 2).

    Every scorer votes for the candidate it scores highest, and for all of them when several share its highest score (the same
    text of two sources). Equal votes are settled by the higher mean z-scored reward, then the lower own cross-entropy, then
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
            raise NumericsError(f"The {what} `{name}` must be finite, but is {value}. Score it again or remove it.")
