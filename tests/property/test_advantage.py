"""What must hold of Min-CE and the vote for any scores."""

from hypothesis import given
from hypothesis import strategies as st

from models.fusion.advantage import min_ce, score_value, vote
from models.schema import SourceScore

values = st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.3, 1.0, 7.0])  # few values: ties are common


@st.composite
def ballots(draw: st.DrawFn) -> tuple[dict[str, dict[str, float]], dict[str, float], list[str]]:
    candidates = [f"c{i}" for i in range(draw(st.integers(1, 5)))]
    scorers = [f"s{i}" for i in range(draw(st.integers(1, 4)))]
    rewards = {s: {c: draw(values) for c in candidates} for s in scorers}
    return rewards, {c: draw(values) for c in candidates}, candidates


@given(ballots())
def test_winner_has_most_votes_and_every_scorer_voted(ballot):
    rewards, own_ce, order = ballot
    result = vote(rewards, own_ce=own_ce, order=order)
    assert result.votes[result.winner] == max(result.votes.values()) >= 1
    assert sum(result.votes.values()) >= len(rewards)


@given(ballots(), st.randoms(use_true_random=False))
def test_only_the_last_rule_depends_on_the_order(ballot, random):
    rewards, own_ce, order = ballot
    other = list(order)
    random.shuffle(other)
    scorers = list(rewards.items())
    random.shuffle(scorers)
    first = vote(rewards, own_ce=own_ce, order=order)
    second = vote({s: {c: row[c] for c in other} for s, row in scorers}, own_ce=own_ce, order=other)
    assert first.tie == second.tie
    assert first.votes == second.votes
    if first.tie != "order":
        assert first.winner == second.winner


@given(ballots(), st.sampled_from([0.25, 8.0, 1024.0]), st.integers(-4, 4))
def test_scale_and_shift_of_a_scorer_change_nothing(ballot, scale, shift):
    rewards, own_ce, order = ballot
    name = next(iter(rewards))
    moved = rewards | {name: {c: scale * x + shift for c, x in rewards[name].items()}}
    first, second = (vote(r, own_ce=own_ce, order=order) for r in (rewards, moved))
    assert (first.winner, first.tie) == (second.winner, second.tie)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50), st.booleans()), min_size=1, max_size=5))
def test_min_ce_is_the_least_of_the_lossless(rows):
    scores = {f"s{i}": SourceScore(nll, tokens, 40, lossless) for i, (nll, tokens, lossless) in enumerate(rows)}
    if not any(s.lossless for s in scores.values()):
        return
    for unit in ("byte", "token"):
        winner = min_ce(scores, unit=unit, order=list(scores))
        assert scores[winner].lossless
        assert all(score_value(scores[winner], unit) <= score_value(s, unit) for s in scores.values() if s.lossless)
