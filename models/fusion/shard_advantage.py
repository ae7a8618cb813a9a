"""Who is best on the examples of one shard: from the files of scores and rewards to advantage.jsonl and back."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.errors import SignalError
from models.fusion.advantage import Unit, candidate_key, min_ce, score_value, split_candidate, vote
from models.schema import Advantage, SourceScore

GROUND_TRUTH, RESPONSE = "ground_truth", "response"
ScoreTable = Mapping[str, Mapping[str, SourceScore]]


def score_row(id_: str, text: str, score: SourceScore) -> dict[str, Any]:
    """Return one line of scores.jsonl; `text` is `ground_truth`, or `response` with an id `example#sample`."""
    return {"id": id_, "text": text, **asdict(score)}


def judge_shard(
    examples: Sequence[tuple[str, str]],
    *,
    scores: Mapping[str, Path],
    rewards: Mapping[str, Path],
    unit: Unit,
    order: Sequence[str],
) -> list[Advantage]:
    """Find the Min-CE winner (eq. 1) and the vote winner (eq. 2) of every example.

    Args:
        examples: (id, family) in corpus order.
        scores: Source → its scores.jsonl.
        rewards: Scorer → its rewards.jsonl, rows {id, scores: {source#sample: reward}}, without scores where it abstains.
        unit: Unit of Min-CE.
        order: Sources; the first of equals wins.

    Raises:
        SignalError: A file lacks an example; the message names both.
    """
    truths: dict[str, dict[str, SourceScore]] = {}
    answers: dict[str, dict[str, SourceScore]] = {}
    for source in order:
        for row in _rows(scores[source]):
            text, id_ = row.pop("text"), row.pop("id")
            if text == GROUND_TRUTH:
                truths.setdefault(id_, {})[source] = SourceScore(**row)
            else:
                example, sample = split_candidate(id_)
                answers.setdefault(example, {})[candidate_key(source, sample)] = SourceScore(**row)
    votes = {scorer: {row["id"]: row["scores"] for row in _rows(path)} for scorer, path in rewards.items()}
    _require_all([id_ for id_, _ in examples], {"scores": truths, "answers": answers, **votes})
    return [
        _judge(id_, family, truths[id_], answers[id_], {s: v[id_] for s, v in votes.items() if v[id_]}, unit=unit, order=order)
        for id_, family in examples
    ]


def _judge(
    id_: str,
    family: str,
    truths: Mapping[str, SourceScore],
    answers: Mapping[str, SourceScore],
    rewards: Mapping[str, Mapping[str, float]],
    *,
    unit: Unit,
    order: Sequence[str],
) -> Advantage:
    places = {source: i for i, source in enumerate(order)}
    candidates = sorted(answers, key=lambda key: (split_candidate(key)[1], places[split_candidate(key)[0]]))
    own_ce = {key: score_value(answers[key], unit) for key in candidates}
    result = vote(rewards, own_ce=own_ce, order=candidates)
    winner, sample = split_candidate(result.winner)
    return Advantage(
        id=id_,
        family=family,
        train_winner=min_ce(truths, unit=unit, order=order),
        infer_winner=winner,
        infer_sample=sample,
        train_scores={source: score_value(truths[source], unit) for source in order},
        infer_votes=result.votes,
        tie=result.tie,
        infer_rewards=result.mean_z,
    )


def write_advantages(path: Path, rows: Iterable[Advantage]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_advantages(path: Path) -> Iterator[Advantage]:
    """Yield what `write_advantages` wrote."""
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
