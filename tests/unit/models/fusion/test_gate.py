"""The gate behind the vote: each rule alone, and the threshold by hand."""

from pathlib import Path

import pytest

from models.errors import ParamsError
from models.fusion.advantage import vote
from models.fusion.gate import LEAST_ACCEPTED, Calibration, Scale, choose_threshold, combined_score, fit_scales, is_accepted
from models.params.teach import VoteParams

TEXTS = {"a": "red", "b": "green", "c": "blue"}


def accepted(rewards: dict[str, dict[str, float]], texts: dict[str, str] | None = None, calibration=None, **rules) -> bool:  # type: ignore[no-untyped-def]
    chosen = texts or TEXTS
    order = [c for c in chosen if all(c in row for row in rewards.values())]
    result = vote(rewards, own_ce=dict.fromkeys(order, 1.0), order=order)
    return is_accepted(result, rewards, chosen, rules=VoteParams(**rules), calibration=calibration)


DISAGREE = {
    "x": {"a": 1.0, "b": 0.0, "c": 0.0},
    "y": {"a": 1.0, "b": 0.0, "c": 0.0},
    "z": {"a": 0.0, "b": 1.0, "c": 0.0},
    "w": {"a": 0.0, "b": 0.0, "c": 1.0},
}


def test_all_is_the_default() -> None:
    assert accepted(DISAGREE)


def test_a_majority_is_more_than_half() -> None:
    assert not accepted(DISAGREE, accept="majority")  # two of four
    assert accepted({k: DISAGREE[k] for k in "xyz"}, accept="majority")


def test_a_margin_is_the_lead_over_another_answer() -> None:
    rewards = {"x": {"a": 1.0, "b": 0.0}}  # z-scores 1 and -1
    texts = {"a": "red", "b": "green"}
    assert accepted(rewards, texts, accept="margin", accept_margin=2.0)
    assert not accepted(rewards, texts, accept="margin", accept_margin=2.1)


def test_the_same_answer_of_two_sources_is_no_rival() -> None:
    rewards = {"x": {"a": 1.0, "b": 1.0, "c": 0.0}}
    assert not accepted(rewards, accept="margin", accept_margin=0.1)
    assert accepted(rewards, {"a": "red", "b": "red", "c": "blue"}, accept="margin", accept_margin=0.1)
    assert accepted(rewards, {"a": "red", "b": "red", "c": "red"}, accept="margin", accept_margin=9.0)  # there is no other


def test_a_calibrated_gate_compares_across_prompts() -> None:
    """The same order of candidates, once far above and once far below what the scorer says elsewhere."""
    calibration = Calibration({"x": Scale(0.0, 1.0)}, threshold=0.5, quality=1.0, target=0.9, num_accepted=30, num_winners=40)
    sure, unsure = {"x": {"a": 2.0, "b": 1.0, "c": 1.0}}, {"x": {"a": -1.0, "b": -2.0, "c": -2.0}}
    assert accepted(sure, calibration=calibration, accept="calibrated")
    assert not accepted(unsure, calibration=calibration, accept="calibrated")


def test_combined_scores_by_hand() -> None:
    scales = fit_scales([{"x": {"a": 0.0, "b": 2.0}, "flat": {"a": 5.0, "b": 5.0}}, {"x": {"a": 0.0, "b": 2.0}}])
    assert scales == {"x": Scale(1.0, 1.0), "flat": Scale(5.0, 0.0)}
    assert combined_score({"x": {"a": 4.0}}, "a", scales) == 3.0
    assert combined_score({"x": {"a": 4.0}, "flat": {"a": 5.0}, "unseen": {"a": 7.0}}, "a", scales) == 1.0


def test_the_lowest_threshold_that_reaches_the_target_is_chosen() -> None:
    """The best 40 of 100 winners are right, of the next 40 every second one, the rest wrong."""
    scores = [float(100 - i) for i in range(100)]
    qualities = [1.0] * 40 + [float(i % 2) for i in range(40)] + [0.0] * 20
    found = choose_threshold(scores, qualities, target=0.9, scales={})
    assert found.quality >= 0.9
    assert found.num_winners == 100
    kept = [q for s, q in zip(scores, qualities, strict=True) if s >= found.threshold]
    assert (len(kept), sum(kept) / len(kept)) == (found.num_accepted, found.quality)
    lower = [sum(qualities[:n]) / n for n in range(found.num_accepted + 1, 101)]
    assert max(lower) < 0.9
    assert choose_threshold(scores, qualities, target=0.6, scales={}).num_accepted == 100


def test_equal_scores_stand_on_the_same_side() -> None:
    found = choose_threshold([1.0] * 30 + [0.0] * 30, [1.0] * 30 + [1.0, 0.0] * 15, target=0.8, scales={})
    assert (found.threshold, found.num_accepted) == (1.0, 30)


def test_a_target_out_of_reach_is_refused_with_what_is_within() -> None:
    with pytest.raises(
        ParamsError, match=r"accept_target` must be within reach.* but is 0\.99\. The best on validation is 0\.524, of 21 of 40"
    ):
        choose_threshold([float(i) for i in range(40)], [0.0, 1.0] * 20, target=0.99, scales={})
    # The single best winner is right, but one winner proves nothing.
    few = [1.0] + [0.0] * (LEAST_ACCEPTED - 1)
    with pytest.raises(ParamsError, match=r"0\.050, of 20 of 20 winners"):
        choose_threshold([float(-i) for i in range(LEAST_ACCEPTED)], few, target=0.9, scales={})


def test_a_calibration_comes_back_as_written(tmp_path: Path) -> None:
    one = Calibration({"x": Scale(0.25, 1.5)}, 0.125, 0.96, 0.95, 30, 40)
    one.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == one
