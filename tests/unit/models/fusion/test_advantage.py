"""Min-CE and the vote: each rule alone."""

import math

import pytest

from models.errors import NumericsError, SignalError
from models.fusion.advantage import candidate_key, min_ce, score_value, split_candidate, vote
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
