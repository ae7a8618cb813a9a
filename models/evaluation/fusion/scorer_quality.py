"""How good the voters are: whether they rank the better of two answers higher, and how often what they pick is right.

Measured on prompts of the validation split. Two answers of a prompt are compared by the row's own check (one is right, the
other is not); where rows have none, by their likeness to the ground truth (sentence chrF).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from models.evaluation.bootstrap import Resampling, ratio_interval
from models.evaluation.fusion.correctness import is_correct
from models.fusion.advantage import Calibration, choose_threshold, combined_score, fit_scales
from models.fusion.scorers import reference_scores
from models.fusion.shard_advantage import ExampleScores, eligible
from models.lm.prompts import TextItem
from models.params.teach import ScorerSpec, VoteParams, even_voters
from models.schema import Advantage, Example

Against = Literal["check", "reference"]
_AGAINST: tuple[Against, ...] = ("check", "reference")


@dataclass(frozen=True, slots=True)
class VotedPrompt:
    """One prompt with the quality of its eligible answers and the scorers' rewards.

    Attributes:
        against: The measure behind `worth`.
        worth: Candidate → 1 or 0 by the check, or chrF to the ground truth / 100.
        texts: Candidate → answer.
        rewards: Scorer → candidate → reward.
        winner: Winner of the vote.
        cut: Whether the winner's answer was cut.
    """

    against: Against
    worth: Mapping[str, float]
    texts: Mapping[str, str]
    rewards: Mapping[str, Mapping[str, float]]
    winner: str | None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class ScorerQuality:
    """One scorer.

    Attributes:
        scorer: Its name.
        kind: Its kind.
        sees_truth: Whether it compares with the ground truth.
        against: The measure it is compared with.
        num_pairs: Pairs of answers of different worth.
        accuracy: Share of them that it ranks rightly (equal scores count half); None without pairs.
        low: Lower end of the bootstrap interval over prompts.
        high: Its upper end.
        picks_right: Mean worth of the answer it scores highest; None without prompts.
        num_prompts: Prompts on which it does not abstain.
        by_definition: Whether it is itself that measure.
    """

    scorer: str
    kind: str
    sees_truth: bool
    against: Against
    num_pairs: int
    accuracy: float | None
    low: float | None
    high: float | None
    picks_right: float | None
    num_prompts: int
    by_definition: bool

    @property
    def at_chance(self) -> bool:
        """Whether the interval reaches down to what a coin would do."""
        return self.low is not None and self.low <= 0.5 and not self.by_definition


def make_voted_prompt(
    example: Example,
    contest: ExampleScores,
    advantage: Advantage,
    *,
    order: Sequence[str],
    rules: VoteParams,
    likeness: bool = True,
) -> VotedPrompt:
    """Put together what is known of one prompt; without `likeness`, answers to rows without a check have no worth.

    Nor have answers to rows that have neither a check nor a ground truth.
    """
    able = eligible(contest.answers, order=order, truncated_may_win=rules.truncated_may_win)
    texts = {c: contest.answers[c].text for c in able}
    against: Against = "check" if example.check != "none" else "reference"
    worth = answer_worth(example, texts) if against == "check" or likeness else {}
    rewards = {scorer: {c: row[c] for c in able} for scorer, row in contest.rewards.items()} if able else {}
    winner = None if advantage.infer_winner is None else f"{advantage.infer_winner}#{advantage.infer_sample}"
    return VotedPrompt(against, worth, texts, rewards, winner, cut=winner is not None and not contest.answers[winner].ended)


def measure_scorers(
    cases: Sequence[VotedPrompt], scorers: Sequence[ScorerSpec], *, resampling: Resampling | None = None
) -> dict[str, Any]:
    """Measure every scorer and the vote.

    Returns:
        JSON-ready: `num_prompts`, `num_voters`; `scorers`, rows of `ScorerQuality`, for data of both kinds two each; `picks`, one
        row {against, num_prompts, vote, any_source, oracle} per kind of data, the mean worth of what the vote, a random source
        and the best possible choice pick; `warnings`, sentences.
    """
    rows = [
        quality
        for scorer in scorers
        for against in _AGAINST
        if (quality := _judge_scorer([c for c in cases if c.against == against], scorer, against, resampling)) is not None
    ]
    return {
        "num_prompts": len(cases),
        "num_voters": len(scorers),
        "scorers": [asdict(row) for row in rows],
        "picks": [_picks([c for c in cases if c.against == against], against) for against in _AGAINST if _any(cases, against)],
        "warnings": [*_warnings(rows), *even_voters(scorers)],
    }


def calibrate(cases: Sequence[VotedPrompt], *, target: float, of: str = "") -> Calibration:
    """Choose the threshold of the gate `calibrated`.

    Prompts whose rows have a check count alone, if there are any: a share of right answers and a likeness do not add up.

    Args:
        cases: Validation prompts.
        target: `teach.rewards.accept_target`.
        of: Which scorers voted, for the error: a clause that follows their name, or all of them.

    Raises:
        ParamsError: The target is out of reach, or no prompt has a winner.
    """
    scales = fit_scales(case.rewards for case in cases)
    won = [(case, case.winner) for case in cases if case.winner is not None and case.worth]
    checked = [(case, winner) for case, winner in won if case.against == "check"]
    judged = checked or won
    scores = [combined_score(case.rewards, winner, scales) for case, winner in judged]
    return choose_threshold(scores, [case.worth[winner] for case, winner in judged], target=target, scales=scales, of=of)


def winner_counts(cases: Sequence[VotedPrompt], advantages: Sequence[Advantage]) -> dict[str, Any]:
    """Count winners, prompts without one by reason, and of the prompts with a check what the vote made of them.

    Returns:
        `prompts`; `winners`, `cut` of them; `without_winner` {reason: prompts}; `checked` (winners whose row has a check),
        `right` of them; `checked_prompts`, on which `possible` had a right answer to choose and a random answer is right
        `expected` times.
    """
    reasons: dict[str, int] = {}
    for advantage in advantages:
        if advantage.without_winner:
            reasons[advantage.without_winner] = reasons.get(advantage.without_winner, 0) + 1
    checked = [case for case in cases if case.against == "check" and case.worth]
    won = [case.worth[case.winner] for case in checked if case.winner is not None]
    return {
        "prompts": len(advantages),
        "winners": len(advantages) - sum(reasons.values()),
        "cut": sum(case.cut for case in cases),
        "without_winner": reasons,
        "checked": len(won),
        "right": int(sum(won)),
        "checked_prompts": len(checked),
        "possible": int(sum(max(case.worth.values()) for case in checked)),
        "expected": sum(_mean(list(case.worth.values())) for case in checked),
    }


def answer_worth(example: Example, texts: Mapping[str, str]) -> dict[str, float]:
    """Return candidate → 1 or 0 by the row's check, else chrF to the ground truth / 100; empty where there is neither."""
    if example.check != "none":
        return {c: float(bool(is_correct(example, text))) for c, text in texts.items()}
    if example.response is None:
        return {}
    items = [TextItem(example.id, example.messages, text) for text in texts.values()]
    likeness = reference_scores(items, [example.ground_truth] * len(items))
    return {c: score / 100 for c, score in zip(texts, likeness, strict=True)}


def _judge_scorer(
    cases: Sequence[VotedPrompt], scorer: ScorerSpec, against: Against, resampling: Resampling | None
) -> ScorerQuality | None:
    voted = [case for case in cases if case.worth and case.rewards.get(scorer.name)]
    if not voted:
        return None
    counts = [_ranked(case, case.rewards[scorer.name]) for case in voted]
    counts = [(points, pairs) for points, pairs in counts if pairs]
    found = ratio_interval(*map(list, zip(*counts, strict=True)), resampling=resampling) if counts else None
    return ScorerQuality(
        scorer=scorer.name,
        kind=scorer.kind,
        sees_truth=scorer.sees_truth,
        against=against,
        num_pairs=sum(pairs for _, pairs in counts),
        accuracy=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        picks_right=_mean([_picked(case, case.rewards[scorer.name]) for case in voted]),
        num_prompts=len(voted),
        by_definition=scorer.kind == against,
    )


def _ranked(case: VotedPrompt, row: Mapping[str, float]) -> tuple[float, int]:
    """Return how many pairs of different worth a row ranks rightly (equal scores count half), and how many there are."""
    points, pairs = 0.0, 0
    for a, b in combinations(case.worth, 2):
        if case.worth[a] == case.worth[b]:
            continue
        better, worse = (a, b) if case.worth[a] > case.worth[b] else (b, a)
        points += 0.5 + 0.5 * ((row[better] > row[worse]) - (row[better] < row[worse]))
        pairs += 1
    return points, pairs


def _picked(case: VotedPrompt, row: Mapping[str, float]) -> float:
    most = max(row.values())
    return _mean([case.worth[c] for c, score in row.items() if score == most])


def _picks(cases: Sequence[VotedPrompt], against: Against) -> dict[str, Any]:
    judged = [case for case in cases if case.worth]
    won = [case.worth[case.winner] for case in judged if case.winner is not None]
    return {
        "against": against,
        "num_prompts": len(judged),
        "vote": _mean(won) if won else None,
        "any_source": _mean([_mean(list(case.worth.values())) for case in judged]),
        "oracle": _mean([max(case.worth.values()) for case in judged]),
    }


def _any(cases: Sequence[VotedPrompt], against: Against) -> bool:
    return any(case.worth for case in cases if case.against == against)


def _warnings(rows: Sequence[ScorerQuality]) -> list[str]:
    return [
        f"Scorer `{row.scorer}` ranks answers no better than chance on the validation split: {100 * (row.accuracy or 0):.1f} % "
        f"[{100 * (row.low or 0):.1f}, {100 * (row.high or 0):.1f}] of {row.num_pairs:,} pairs, against the {row.against}. "
        "Remove it, or take another."
        for row in rows
        if row.at_chance
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
