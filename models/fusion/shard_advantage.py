"""Winners of one shard's examples: from the files of scores and rewards to advantage.jsonl and back."""

import json
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.corpus.examples import read_responses
from models.errors import SignalError
from models.fusion.advantage import (
    Calibration,
    Rewards,
    Unit,
    Vote,
    candidate_key,
    is_accepted,
    min_ce,
    score_value,
    split_candidate,
    vote,
)
from models.params.teach import VoteParams
from models.schema import Advantage, Response, SourceScore, WithoutWinner

GROUND_TRUTH, RESPONSE = "ground_truth", "response"

Worth = Mapping[str, float]
"""Candidate → quality of its answer by what is known of the prompt, 0 (wrong) to 1; empty where nothing is known."""


def score_row(id_: str, text: str, score: SourceScore) -> dict[str, Any]:
    """Return one line of scores.jsonl; `text` is `ground_truth`, or `response` with an id `example#sample`."""
    return {"id": id_, "text": text, **asdict(score)}


@dataclass(frozen=True, slots=True)
class VotingRules:
    """Rules by which the winners of a shard are selected.

    Attributes:
        order: Sources; the first wins remaining ties.
        unit: Unit of Min-CE.
        rules: Which answers may win, and how sure a vote must be.
        calibration: For the gate `calibrated`.
        calibration_without_truth: The same for prompts without a ground truth, on which fewer scorers vote.
    """

    order: Sequence[str]
    unit: Unit
    rules: VoteParams = field(default_factory=VoteParams)
    calibration: Calibration | None = None
    calibration_without_truth: Calibration | None = None


@dataclass(frozen=True, slots=True)
class ExampleScores:
    """Scores and rewards of one example; candidates are named `source#sample`.

    Attributes:
        id: Example id.
        family: Its family.
        truths: Source → its score on the ground truth; empty where there is none.
        own: Candidate → score of its source on it.
        rewards: Scorer → candidate → reward; a scorer that abstains is absent.
        answers: Candidate → answer.
    """

    id: str
    family: str
    truths: Mapping[str, SourceScore]
    own: Mapping[str, SourceScore]
    rewards: Rewards
    answers: Mapping[str, Response]


def read_example_scores(
    examples: Sequence[tuple[str, str]],
    *,
    scores: Mapping[str, Path],
    rewards: Mapping[str, Path],
    responses: Mapping[str, Path],
    prompts_only: Collection[str] = (),
) -> list[ExampleScores]:
    """Read scores, rewards and answers of every example of a shard.

    Args:
        examples: (id, family) in corpus order.
        scores: Source → its scores.jsonl.
        rewards: Scorer → its rewards.jsonl, rows {id, scores: {source#sample: reward}}, without scores where it abstains.
        responses: Source → folder of its answers.
        prompts_only: Ids of the examples without a ground truth, on which nothing is scored but the answers.

    Raises:
        SignalError: A file lacks an example; the message names both.
    """
    truths: dict[str, dict[str, SourceScore]] = {}
    own: dict[str, dict[str, SourceScore]] = {}
    answers: dict[str, dict[str, Response]] = {}
    for source, folder in responses.items():
        for row in _rows(scores[source]):
            text, id_ = row.pop("text"), row.pop("id")
            if text == GROUND_TRUTH:
                truths.setdefault(id_, {})[source] = SourceScore(**row)
            else:
                example, sample = split_candidate(id_)
                own.setdefault(example, {})[candidate_key(source, sample)] = SourceScore(**row)
        for answer in read_responses(folder):
            answers.setdefault(answer.id, {})[candidate_key(source, answer.sample)] = answer
    votes = {scorer: {row["id"]: row["scores"] for row in _rows(path)} for scorer, path in rewards.items()}
    ids = [id_ for id_, _ in examples]
    _require_all([id_ for id_ in ids if id_ not in prompts_only], {"scores": truths})
    _require_all(ids, {"scores of answers": own, "responses": answers, **votes})
    return [
        ExampleScores(id_, family, truths.get(id_, {}), own[id_], {s: v[id_] for s, v in votes.items() if v[id_]}, answers[id_])
        for id_, family in examples
    ]


def select_winners(
    contests: Sequence[ExampleScores], election: VotingRules, *, worth: Mapping[str, Worth] | None = None
) -> list[Advantage]:
    """Find the Min-CE winner (eq. 1) and the vote winner (eq. 2) of every example; without a ground truth the latter alone.

    An empty answer cannot win, nor can a truncated one unless the rules allow it. There is no winner if no candidate remains,
    if every scorer abstains, or if the vote does not pass the gate. The rules may put chance or an oracle in the vote's place;
    the vote is held all the same, and recorded.

    Args:
        contests: Scores of the examples.
        election: The rules.
        worth: Example id → what each answer is worth, for the oracle; examples of which nothing is known may be absent.

    Raises:
        SignalError: Candidates of scores, rewards and answers differ.
    """
    known = worth or {}
    return [_judge(contest, election, known.get(contest.id, {})) for contest in contests]


def _judge(contest: ExampleScores, election: VotingRules, worth: Worth) -> Advantage:
    order, unit = election.order, election.unit
    able = eligible(contest.answers, order=order, truncated_may_win=election.rules.truncated_may_win)
    rewards = {scorer: {c: row[c] for c in able} for scorer, row in contest.rewards.items()} if able else {}
    result = vote(rewards, own_ce={c: score_value(contest.own[c], unit) for c in able}, order=able) if rewards else None
    named, reason = _named_winner(contest, able, election, rewards=rewards, result=result, worth=worth)
    winner, sample = split_candidate(named) if named is not None else (None, None)
    return Advantage(
        id=contest.id,
        family=contest.family,
        train_winner=min_ce(contest.truths, unit=unit, order=order) if contest.truths else None,
        infer_winner=winner,
        infer_sample=sample,
        train_scores={source: score_value(contest.truths[source], unit) for source in order} if contest.truths else {},
        infer_votes=result.votes if result is not None else {},
        tie=result.tie if result is not None else "none",
        infer_rewards=result.mean_z if result is not None else {},
        without_winner=reason,
    )


def _named_winner(
    contest: ExampleScores, able: Sequence[str], election: VotingRules, *, rewards: Rewards, result: Vote | None, worth: Worth
) -> tuple[str | None, WithoutWinner]:
    """Return the winning candidate, or None and why there is none."""
    rules = election.rules
    if not able:
        return None, "truncated" if any(a.text.strip() for a in contest.answers.values()) else "empty"
    if rules.winner == "random":
        return random.Random(f"{rules.winner_seed}/{contest.id}").choice(able), ""
    if rules.winner == "oracle":
        return _best_known(contest, able, rewards, election.unit, worth)
    if result is None:
        return None, "abstained"
    texts = {c: contest.answers[c].text for c in able}
    calibration = election.calibration if contest.truths else election.calibration_without_truth
    passed = is_accepted(result, rewards, texts, rules=rules, calibration=calibration)
    return (result.winner, "") if passed else (None, "gate")


def _best_known(
    contest: ExampleScores, able: Sequence[str], rewards: Rewards, unit: Unit, worth: Worth
) -> tuple[str | None, WithoutWinner]:
    """Return the answer that is worth most; of several, the one with the most votes (the surest, where no scorer votes)."""
    if not worth:
        return None, "abstained"
    most = max(worth[c] for c in able)
    if most <= 0:
        return None, "wrong"
    best = [c for c in able if worth[c] == most]
    own = {c: score_value(contest.own[c], unit) for c in best}
    among = {scorer: {c: row[c] for c in best} for scorer, row in rewards.items()}
    return (vote(among, own_ce=own, order=best).winner if among else min(best, key=own.__getitem__)), ""


def eligible(answers: Mapping[str, Response], *, order: Sequence[str], truncated_may_win: bool) -> list[str]:
    """Return the candidates that may win, in the order that breaks remaining ties: by sample, then by source.

    Of equal answers of one source only the first is a candidate: rounding must not divide the votes among copies.
    """
    places = {source: i for i, source in enumerate(order)}
    able = [c for c, a in answers.items() if a.text.strip() and (truncated_may_win or a.ended)]
    first: dict[tuple[str, str, bool], str] = {}
    for c in sorted(able, key=lambda c: (answers[c].sample, places[answers[c].source])):
        first.setdefault((answers[c].source, answers[c].text, answers[c].ended), c)
    return list(first.values())


def read_own_scores(path: Path) -> dict[str, SourceScore]:
    """Return a source's scores on its own answers, by `example#sample`."""
    rows = [row for row in _rows(path) if row.pop("text") == RESPONSE]
    return {row.pop("id"): SourceScore(**row) for row in rows}


def write_advantages(path: Path, rows: Iterable[Advantage]) -> None:
    """Write advantages as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_advantages(path: Path) -> Iterator[Advantage]:
    """Yield the advantages written by `write_advantages`."""
    for row in _rows(path):
        yield Advantage(**row)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _require_all(ids: Sequence[str], tables: Mapping[str, Mapping[str, object]]) -> None:
    for name, table in tables.items():
        missing = [id_ for id_ in ids if id_ not in table]
        if missing:
            raise SignalError(
                f"`{name}` must hold every example of the shard, but lacks {len(missing)}, first {missing[0]}. Run `teach` again."
            )
