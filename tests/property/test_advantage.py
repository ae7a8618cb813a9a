"""What must hold of Min-CE and the vote for any scores."""

from hypothesis import given
from hypothesis import strategies as st

from models.errors import ParamsError
from models.fusion.advantage import LEAST_ACCEPTED, choose_threshold, min_ce, score_value, vote
from models.fusion.shard_advantage import ExampleScores, VotingRules, select_winners
from models.params.teach import VoteParams
from models.schema import Response, SourceScore

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


@st.composite
def contests(draw: st.DrawFn) -> ExampleScores:
    names = [f"c{i}" for i in range(draw(st.integers(1, 5)))]
    said = st.tuples(st.sampled_from(["", " ", "red", "blue", "green"]), st.sampled_from(["eos", "length", "content_filter"]))
    answers = {f"{n}#0": Response("x", n, 0, text, 1, finish) for n in names for text, finish in [draw(said)]}
    rewards = {f"s{i}": {c: draw(values) for c in answers} for i in range(draw(st.integers(0, 4)))}
    score = SourceScore(1.0, 1, 4, True)
    return ExampleScores("x", "f", dict.fromkeys(names, score), dict.fromkeys(answers, score), rewards, answers)


@given(contests(), st.booleans(), st.sampled_from(["all", "majority", "margin"]))
def test_a_winner_is_an_answer_that_may_win_and_nobody_wins_for_a_reason(contest, truncated, accept):
    rules = VoteParams(truncated_may_win=truncated, accept=accept)
    (row,) = select_winners([contest], VotingRules(order=list(contest.truths), unit="byte", rules=rules))
    able = {c for c, a in contest.answers.items() if a.text.strip() and (truncated or a.finish == "eos")}
    assert set(row.infer_votes) == (able if contest.rewards else set())
    assert (row.infer_winner is None) == (row.without_winner != "") == (row.infer_sample is None)
    if row.infer_winner is not None:
        assert f"{row.infer_winner}#0" in able
        votes = row.infer_votes[f"{row.infer_winner}#0"]
        assert votes == max(row.infer_votes.values())
        assert accept != "majority" or 2 * votes > len(contest.rewards)
    expected = "gate" if able and contest.rewards else "abstained" if able else None
    if row.without_winner:
        assert row.without_winner == expected or (expected is None and row.without_winner in ("empty", "truncated"))


@given(st.lists(st.tuples(values, st.floats(0, 1)), min_size=1, max_size=60), st.floats(0.05, 1))
def test_a_calibrated_threshold_reaches_its_target_and_no_lower_one_does(winners, target):
    scores, worth = [s for s, _ in winners], [w for _, w in winners]

    def mean_above(threshold):
        kept = [w for s, w in winners if s >= threshold]
        return sum(kept) / len(kept), len(kept)

    try:
        found = choose_threshold(scores, worth, target=target, scales={})
    except ParamsError:
        least = min(LEAST_ACCEPTED, len(winners))
        assert all(mean < target + 1e-9 for t in set(scores) for mean, kept in [mean_above(t)] if kept >= least)
        return
    mean, kept = mean_above(found.threshold)
    assert mean >= target - 1e-9 and kept == found.num_accepted
    assert all(mean_above(t)[0] < target + 1e-9 for t in set(scores) if t < found.threshold)
