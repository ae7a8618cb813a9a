"""Counts of winners and agreement of the modes, by hand."""

import json

from models.fusion.advantage import mode_agreement, win_table
from models.schema import Advantage

SOURCES = ["v", "l"]


def example(
    number: int, family: str, train: tuple[float, float], votes: tuple[int, int], rewards: tuple[float, float] = (0.0, 0.0)
) -> Advantage:
    better = votes > votes[::-1] or (votes[0] == votes[1] and rewards[0] >= rewards[1])
    return Advantage(
        id=f"e{number}",
        family=family,
        train_winner="v" if train[0] <= train[1] else "l",
        infer_winner="v" if better else "l",
        infer_sample=0,
        train_scores=dict(zip(SOURCES, train, strict=True)),
        infer_votes={"v#0": votes[0], "l#0": votes[1]},
        infer_rewards={"v#0": rewards[0], "l#0": rewards[1]},
    )


EXAMPLES = [
    example(1, "reasoning", (0.5, 0.9), (1, 2)),  # v, l
    example(2, "reasoning", (0.5, 0.9), (3, 0)),  # v, v
    example(3, "knowledge", (0.5, 0.5), (1, 1), (0.2, 0.4)),  # v by order, l by reward
    example(4, "knowledge", (0.9, 0.5), (1, 1), (0.3, 0.3)),  # l, v by order
]


def test_wins_by_family_and_mode():
    rows = win_table(iter(EXAMPLES), SOURCES)
    found = {(r["family"], r["mode"], r["source"]): (r["wins"], r["num_examples"], r["share"]) for r in rows}
    assert found["all", "training", "v"] == (3, 4, 0.75)
    assert found["all", "training", "l"] == (1, 4, 0.25)
    assert found["all", "inference", "v"] == (2, 4, 0.5)
    assert found["reasoning", "training", "l"] == (0, 2, 0.0)
    assert found["knowledge", "inference", "l"] == (1, 2, 0.5)
    assert [r["family"] for r in rows[::4]] == ["all", "knowledge", "reasoning"]
    assert len(rows) == 12
    assert json.loads(json.dumps(rows)) == rows


def test_agreement_overall_and_by_family():
    result = mode_agreement(iter(EXAMPLES), SOURCES)
    assert result["overall"] == {"num_examples": 4, "agreeing": 1, "share": 0.25}
    assert result["by_family"] == {
        "knowledge": {"num_examples": 2, "agreeing": 0, "share": 0.0},
        "reasoning": {"num_examples": 2, "agreeing": 1, "share": 0.5},
    }
    assert result["confusion"] == {"sources": SOURCES, "counts": [[1, 2], [1, 0]]}
    assert json.loads(json.dumps(result)) == result


def test_pairwise_rates_count_ties_apart():
    forth, back = mode_agreement(EXAMPLES, SOURCES)["pairwise"]
    assert (forth["a"], forth["b"]) == ("v", "l")
    assert (forth["num_training"], forth["training_share"], forth["training_tie_share"]) == (4, 0.5, 0.25)
    assert (forth["num_inference"], forth["inference_share"], forth["inference_tie_share"]) == (4, 0.25, 0.25)
    assert (back["training_share"], back["inference_share"]) == (0.25, 0.5)


def test_the_best_sample_of_a_source_counts():
    one = Advantage("e", "f", "v", "l", 1, {"v": 1.0, "l": 2.0}, {"v#0": 1, "l#0": 0, "l#1": 2})
    (forth, back) = mode_agreement([one], SOURCES)["pairwise"]
    assert (forth["inference_share"], back["inference_share"]) == (0.0, 1.0)


def test_absent_sources_are_not_compared_and_nothing_is_none():
    one = Advantage("e", "f", "v", "v", 0, {"v": 1.0}, {"v#0": 1})
    result = mode_agreement([one], SOURCES)
    assert result["pairwise"][0]["num_training"] == 0
    assert result["pairwise"][0]["training_share"] is None
    empty = mode_agreement([], SOURCES)
    assert empty["overall"] == {"num_examples": 0, "agreeing": 0, "share": None}
    assert win_table([], SOURCES) == []
