"""Min-CE and the vote: each rule alone."""

import math
from pathlib import Path

import pytest

from models.errors import NumericsError, ParamsError, SignalError
from models.fusion.advantage import (
    LEAST_ACCEPTED,
    Calibration,
    Scale,
    candidate_key,
    choose_threshold,
    combined_score,
    fit_scales,
    is_accepted,
    min_ce,
    score_value,
    split_candidate,
    vote,
)
from models.params.teach import VoteParams
from models.schema import SourceScore


def score(nll: float, tokens: int, *, size: int = 20, lossless: bool = True) -> SourceScore:
    return SourceScore(nll=nll, num_tokens=tokens, num_bytes=size, lossless=lossless)


def test_units():
    assert score_value(score(10.0, 4), "byte") == 0.5
    assert score_value(score(10.0, 4), "token") == 2.5
    assert score_value(score(1.5, 1, size=0), "byte") == 1.5  # an empty response: the end token alone


def test_finer_tokenizer_wins_per_token_but_not_per_byte():
    """The ancestors' bias: the same text in twice the tokens has half the cross-entropy per token."""
    scores = {"coarse": score(10.0, 5), "fine": score(11.0, 10)}
    assert min_ce(scores, unit="byte", order=["coarse", "fine"]) == "coarse"
    assert min_ce(scores, unit="token", order=["coarse", "fine"]) == "fine"


def test_equal_cross_entropies_follow_the_order():
    scores = {"a": score(10.0, 5), "b": score(10.0, 5), "c": score(12.0, 5)}
    assert min_ce(scores, unit="byte", order=["b", "a", "c"]) == "b"
    assert min_ce(scores, unit="byte", order=["c", "a", "b"]) == "a"


def test_tiny_differences_are_not_ties():
    scores = {"a": score(10.0, 5), "b": score(10.0 - 1e-9, 5)}
    assert min_ce(scores, unit="byte", order=["a", "b"]) == "b"


def test_lossy_source_cannot_win():
    scores = {"a": score(10.0, 5), "b": score(1.0, 5, lossless=False)}
    assert min_ce(scores, unit="byte", order=["b", "a"]) == "a"
    with pytest.raises(SignalError, match=r"must reproduce the text byte for byte, but none of \['b'\] does"):
        min_ce({"b": scores["b"]}, unit="byte", order=["b"])


def test_broken_scores_are_refused():
    with pytest.raises(NumericsError, match="cross-entropy of source `b` must be finite, but is nan"):
        min_ce({"a": score(1.0, 1), "b": score(math.nan, 1)}, unit="byte", order=["a", "b"])
    with pytest.raises(SignalError, match=r"sources must be \['a', 'c'\], each once, but are \['a', 'b'\]"):
        min_ce({"a": score(1.0, 1), "b": score(1.0, 1)}, unit="byte", order=["a", "c"])


EVEN = {"a": 1.0, "b": 1.0, "c": 1.0}
ABC = ("a", "b", "c")


def test_single_scorer_is_an_argmax():
    result = vote({"rm": {"a": 0.1, "b": 3.0, "c": -2.0}}, own_ce=EVEN, order=ABC)
    assert (result.winner, result.tie) == ("b", "votes")
    assert result.votes == {"a": 0, "b": 1, "c": 0}


def test_majority_beats_a_large_reward():
    rewards = {"x": {"a": 1.0, "b": 0.9, "c": 0}, "y": {"a": 1.0, "b": 0.9, "c": 0}, "z": {"a": -1000.0, "b": 5.0, "c": 0}}
    result = vote(rewards, own_ce=EVEN, order=ABC)
    assert (result.winner, result.tie) == ("a", "votes")
    assert result.votes == {"a": 2, "b": 1, "c": 0}
    assert result.mean_z["b"] > result.mean_z["a"]


def test_equal_votes_go_to_the_higher_mean_z_whatever_the_scale():
    """`x` prefers a narrowly, `y` prefers b clearly, on a scale a thousand times smaller."""
    rewards = {"x": {"a": 1000.0, "b": 999.0, "c": 0.0}, "y": {"a": 0.2, "b": 1.0, "c": 0.0}}
    result = vote(rewards, own_ce={"a": 0.0, "b": 9.0, "c": 0.0}, order=ABC)
    assert (result.winner, result.tie) == ("b", "reward")


def test_z_scores_by_hand():
    result = vote({"x": {"a": 1.0, "b": 3.0}, "y": {"a": 5.0, "b": 5.0}}, own_ce={"a": 1, "b": 1}, order=("a", "b"))
    assert result.mean_z == {"a": pytest.approx(-0.5), "b": pytest.approx(0.5)}  # a scorer without opinion counts 0
    assert result.votes == {"a": 1, "b": 2}


def test_mirrored_rewards_go_to_the_lower_own_cross_entropy():
    rewards = {"x": {"a": 0.1, "b": 0.3, "c": 0.2}, "y": {"a": 0.3, "b": 0.1, "c": 0.2}}
    result = vote(rewards, own_ce={"a": 0.7, "b": 0.4, "c": 0.0}, order=ABC)
    assert (result.winner, result.tie) == ("b", "ce")


def test_rounding_does_not_settle_a_tie():
    """`y` mirrors `x` on another scale; in floating point a's mean z-score is larger in the last bit."""
    x = {"a": 0.7, "b": 0.5, "c": -0.2}
    y = {"a": 7 * 0.5 + 5, "b": 7 * 0.7 + 5, "c": 7 * -0.2 + 5}
    result = vote({"x": x, "y": y}, own_ce={"a": 0.7, "b": 0.4, "c": 0.0}, order=ABC)
    assert result.mean_z["a"] > result.mean_z["b"]
    assert (result.winner, result.tie) == ("b", "ce")


def test_the_same_text_of_two_sources_shares_the_vote():
    result = vote({"rm": {"a": 2.0, "b": 2.0, "c": 1.0}}, own_ce={"a": 0.7, "b": 0.4, "c": 0.1}, order=ABC)
    assert result.votes == {"a": 1, "b": 1, "c": 0}
    assert (result.winner, result.tie) == ("b", "ce")


def test_last_comes_the_order():
    rewards = {"rm": {"a": 2.0, "b": 2.0, "c": 1.0}}
    assert vote(rewards, own_ce=EVEN, order=ABC).winner == "a"
    result = vote(rewards, own_ce=EVEN, order=("c", "b", "a"))
    assert (result.winner, result.tie) == ("b", "order")


def test_a_candidate_out_of_votes_cannot_return_by_reward():
    """c has the best mean z-score but no vote; the tie is between a and b only."""
    rewards = {"x": {"a": 1.0, "b": 0.0, "c": 0.99}, "y": {"a": 0.0, "b": 1.0, "c": 0.99}}
    result = vote(rewards, own_ce={"a": 0.2, "b": 0.1, "c": 0.0}, order=ABC)
    assert max(result.mean_z, key=result.mean_z.__getitem__) == "c"
    assert (result.winner, result.tie) == ("b", "ce")


def test_broken_votes_are_refused():
    with pytest.raises(SignalError, match="must have a scorer and a candidate, but has 0 and 1"):
        vote({}, own_ce={"a": 1}, order=["a"])
    with pytest.raises(SignalError, match=r"candidates of scorer `rm` must be \['a', 'b'\], each once, but are \['a'\]"):
        vote({"rm": {"a": 1.0}}, own_ce={"a": 1.0, "b": 1.0}, order=["a", "b"])
    with pytest.raises(SignalError, match="candidates of `own_ce`"):
        vote({"rm": {"a": 1.0}}, own_ce={}, order=["a"])
    with pytest.raises(NumericsError, match="reward of scorer `rm` for candidate `a` must be finite, but is nan"):
        vote({"rm": {"a": math.nan}}, own_ce={"a": 1.0}, order=["a"])


def test_candidate_names():
    assert candidate_key("vicuna#7b", 2) == "vicuna#7b#2"
    assert split_candidate("vicuna#7b#2") == ("vicuna#7b", 2)


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
