"""Counts of winners and agreement of the modes, by hand."""

import json
from dataclasses import replace

from models.fusion.win_table import NOBODY, mode_agreement, win_table
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


def unwon(number: int, votes: dict[str, int]) -> Advantage:
    return Advantage(
        f"u{number}",
        "knowledge",
        "v",
        None,
        None,
        {"v": 0.1, "l": 0.2},
        votes,
        "none",
        without_winner="gate" if votes else "empty",
    )


def test_prompts_without_a_winner_are_counted_apart():
    rows = win_table([*EXAMPLES, unwon(5, {})], SOURCES)
    found = {(r["family"], r["mode"], r["source"]): (r["wins"], r["num_examples"]) for r in rows}
    assert found["all", "inference", NOBODY] == (1, 5)
    assert found["knowledge", "inference", NOBODY] == (1, 3)
    assert found["all", "training", NOBODY] == (0, 5)
    for family in ("all", "knowledge", "reasoning"):
        for mode in ("training", "inference"):
            assert sum(r["share"] for r in rows if (r["family"], r["mode"]) == (family, mode)) == 1
    assert NOBODY not in {r["source"] for r in win_table(EXAMPLES, SOURCES)}


def test_agreement_is_over_prompts_that_both_modes_have_a_winner_on():
    before, after = (mode_agreement(rows, SOURCES) for rows in (EXAMPLES, [*EXAMPLES, unwon(5, {})]))
    pairs_before, pairs_after = before.pop("pairwise")[0], after.pop("pairwise")[0]
    assert after == before
    assert (pairs_before["num_training"], pairs_after["num_training"]) == (4, 5)  # each mode alone still compares
    assert pairs_before["num_inference"] == pairs_after["num_inference"] == 4
    none = mode_agreement([unwon(5, {})], SOURCES)
    assert none["overall"] == {"num_examples": 0, "agreeing": 0, "share": None}
    assert none["confusion"]["counts"] == [[0, 0], [0, 0]]


def test_an_answer_that_could_not_win_loses_to_one_that_could():
    forth, _ = mode_agreement([unwon(5, {"v#0": 1})], SOURCES)["pairwise"]
    assert (forth["num_inference"], forth["inference_share"]) == (1, 1.0)


def test_prompts_without_a_ground_truth_count_in_inference_mode_only():
    alone = [replace(e, id=f"alone{e.id}", family="open", train_winner=None, train_scores={}) for e in EXAMPLES[:2]]
    rows = win_table([*EXAMPLES, *alone], SOURCES)
    found = {(r["family"], r["mode"], r["source"]): (r["wins"], r["num_examples"], r["share"]) for r in rows}
    assert found["all", "training", "v"] == (3, 4, 0.75)
    assert found["all", "inference", "v"] == (3, 6, 0.5)
    assert found["open", "training", "v"] == (0, 0, 0.0)
    assert found["open", "inference", "l"] == (1, 2, 0.5)
    agreement = mode_agreement([*EXAMPLES, *alone], SOURCES)
    assert agreement["overall"] == mode_agreement(EXAMPLES, SOURCES)["overall"]
    pair = agreement["pairwise"][0]
    assert (pair["num_training"], pair["num_inference"]) == (4, 6)


def test_a_source_without_an_answer_that_could_win_is_beaten_without_a_ground_truth_too():
    alone = Advantage("x", "f", None, "v", 0, {}, {"v#0": 1}, infer_rewards={"v#0": 0.0})
    assert mode_agreement([alone], SOURCES)["pairwise"][0]["inference_share"] == 1.0
