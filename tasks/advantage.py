"""Tasks `advantage`, `scorer-quality`, `advantage-summary`: who is best in both modes, and how good those are who say so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.params.teach import AdvantageParams, ScorerSpec, VoteParams
from tasks.artifact import Artifact
from tasks.caching import Work, step

if TYPE_CHECKING:
    from models.evaluation.fusion.scorer_quality import VotedPrompt
    from models.fusion.shard_advantage import ExampleScores, VotingRules
    from models.schema import Advantage, Example, Split

CALIBRATION, QUALITY, WINNERS = "calibration.json", "scorer_quality.json", "winners.json"
WITHOUT_TRUTH = "calibration_without_truth.json"


@step("advantage")
def advantage(
    cfg: AdvantageParams,
    rules: VoteParams,
    data: Artifact,
    *,
    scores: Mapping[str, Artifact],
    rewards: Mapping[str, Artifact],
    responses: Mapping[str, Artifact],
    calibration: Artifact | None,
    order: tuple[str, ...],
    start: int,
    stop: int,
    answers: Artifact | None = None,
    work: Work,
) -> Mapping[str, Any]:
    """Write advantage.jsonl: Min-CE winner (eq. 1) and vote winner (eq. 2) of every example of the shard, and their counts.

    For the rule `oracle`, `answers` has those that the examples do not show (`known_answers`).
    """
    from models.evaluation.fusion.scorer_quality import winner_counts
    from models.fusion.advantage import Calibration
    from models.fusion.shard_advantage import VotingRules, write_advantages

    places = [] if calibration is None else [calibration.path / name for name in (CALIBRATION, WITHOUT_TRUTH)]
    known, without = ([Calibration.load(place) if place.is_file() else None for place in places] + [None, None])[:2]
    election = VotingRules(order=order, unit=cfg.ce_unit, rules=rules, calibration=known, calibration_without_truth=without)
    rows, cases = _held(data, scores, rewards, responses, split="train", span=(start, stop), election=election, answers=answers)
    write_advantages(work.out / "advantage.jsonl", rows)
    counts = winner_counts(cases, rows)
    (work.out / WINNERS).write_text(json.dumps(counts, indent=1), encoding="utf-8")
    return {"examples": len(rows), "without_winner": len(rows) - counts["winners"]}


@step("scorer-quality")
def scorer_quality(
    cfg: AdvantageParams,
    rules: VoteParams,
    data: Artifact,
    *,
    scorers: tuple[ScorerSpec, ...],
    scores: tuple[Mapping[str, Artifact], ...],
    rewards: tuple[Mapping[str, Artifact], ...],
    responses: tuple[Mapping[str, Artifact], ...],
    shards: tuple[tuple[int, int], ...],
    order: tuple[str, ...],
    prompts_only: bool = False,
    work: Work,
) -> Mapping[str, Any]:
    """Write scorer_quality.json, and for the gate `calibrated` calibration.json, from the validation prompts of all shards.

    With training prompts without a ground truth (`prompts_only`) also calibration_without_truth.json: the threshold at which
    winners reach the target where the scorers that need none vote alone.
    """
    from models.evaluation.fusion.scorer_quality import calibrate, measure_scorers
    from models.fusion.shard_advantage import VotingRules

    open_gate = VoteParams(truncated_may_win=rules.truncated_may_win)
    election = VotingRules(order=order, unit=cfg.ce_unit, rules=open_gate)
    cases: list[VotedPrompt] = []
    alone: list[VotedPrompt] = []
    voters = frozenset(s.name for s in scorers if not s.sees_truth)
    gate = rules.accept == "calibrated"
    for span, *parts in zip(shards, scores, rewards, responses, strict=True):
        cases += _held(data, *parts, split="valid", span=span, election=election)[1]
        if gate and prompts_only and voters:
            alone += _held(data, *parts, split="valid", span=span, election=election, voters=voters)[1]
    found = measure_scorers(cases, scorers)
    (work.out / QUALITY).write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    if gate:
        calibrate(cases, target=rules.accept_target).save(work.out / CALIBRATION)
    if alone:
        of = " that vote on prompts without a ground truth"
        calibrate(alone, target=rules.accept_target, of=of).save(work.out / WITHOUT_TRUTH)
    return {"prompts": len(cases), "warnings": found["warnings"]}


def _held(
    data: Artifact,
    scores: Mapping[str, Artifact],
    rewards: Mapping[str, Artifact],
    responses: Mapping[str, Artifact],
    *,
    split: "Split",
    span: tuple[int, int],
    election: "VotingRules",
    voters: "frozenset[str] | None" = None,
    answers: Artifact | None = None,
) -> "tuple[list[Advantage], list[VotedPrompt]]":
    """Hold the vote on one shard (with `voters`, among those scorers): its outcome, and what the answers were worth."""
    from models.corpus.examples import read_slice
    from models.evaluation.fusion.scorer_quality import make_voted_prompt
    from models.fusion.shard_advantage import read_example_scores, select_winners

    examples = read_slice(data.path / f"{split}.jsonl", *span)
    contests = read_example_scores(
        [(e.id, e.family) for e in examples],
        scores={name: a.path / "scores.jsonl" for name, a in scores.items()},
        rewards={name: a.path / "rewards.jsonl" for name, a in rewards.items()},
        responses={name: a.path for name, a in responses.items()},
        prompts_only={e.id for e in examples if e.response is None},
    )
    if voters is not None:
        contests = [replace(c, rewards={name: row for name, row in c.rewards.items() if name in voters}) for c in contests]
    worth = _known_worth(examples, contests, answers) if election.rules.winner == "oracle" else {}
    rows = select_winners(contests, election, worth=worth)
    cases = [
        make_voted_prompt(e, c, a, order=election.order, rules=election.rules, likeness=split == "valid")
        for e, c, a in zip(examples, contests, rows, strict=True)
    ]
    return rows, cases


def _known_worth(
    examples: "Sequence[Example]", contests: "Sequence[ExampleScores]", answers: Artifact | None
) -> "dict[str, dict[str, float]]":
    """Return example → candidate → worth of its answer: by `answers`, else by what the example itself shows."""
    from models.corpus.examples import ANSWERS, read_json_lines
    from models.evaluation.fusion.scorer_quality import answer_worth

    known = {} if answers is None else {row.pop("id"): row for row in read_json_lines(answers.path / ANSWERS)}
    return {
        e.id: answer_worth(replace(e, **known.get(e.id, {})), {name: answer.text for name, answer in c.answers.items()})
        for e, c in zip(examples, contests, strict=True)
    }


@step("advantage-summary")
def advantage_summary(
    shards: tuple[Artifact, ...], quality: Artifact | None, scorers: tuple[ScorerSpec, ...], *, order: tuple[str, ...], work: Work
) -> Mapping[str, Any]:
    """Write win_table.json, agreement.json, winners.json and scorer_quality.json over all shards."""
    from models.evaluation.fusion.scorer_quality import measure_scorers
    from models.fusion.shard_advantage import read_advantages
    from models.fusion.win_table import mode_agreement, win_table

    rows = [row for shard in shards for row in read_advantages(shard.path / "advantage.jsonl")]
    winners = _added([json.loads((shard.path / WINNERS).read_text(encoding="utf-8")) for shard in shards])
    # Without validation prompts nothing is known of the scorers but their number.
    known = measure_scorers([], scorers) if quality is None else json.loads((quality.path / QUALITY).read_text(encoding="utf-8"))
    parts = {
        "win_table": win_table(rows, order),
        "agreement": mode_agreement(rows, order),
        WINNERS.removesuffix(".json"): winners,
        QUALITY.removesuffix(".json"): known,
    }
    for name, content in parts.items():
        (work.out / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"examples": len(rows), "winners": winners, "warnings": known["warnings"]}


def _added(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum counts of shards, nested ones, too."""
    total: dict[str, Any] = {}
    for row in counts:
        for key, value in row.items():
            total[key] = _added([total.get(key, {}), value]) if isinstance(value, Mapping) else total.get(key, 0) + value
    return total
