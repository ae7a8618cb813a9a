"""Voters judged by hand-made cases."""

import json
from typing import Any

import pytest

from models.errors import ParamsError
from models.evaluation.fusion.scorer_quality import VotedPrompt, calibrate, make_voted_prompt, measure_scorers, winner_counts
from models.fusion.shard_advantage import ExampleScores
from models.params.teach import ScorerSpec, VoteParams, even_voters
from models.schema import Advantage, Example, Message, Response, SourceScore


def scorers(*names: str, kind: str = "reward_model") -> list[ScorerSpec]:
    return [ScorerSpec.model_validate({"kind": kind, "name": name}) for name in names]


def case(worth: dict[str, float], winner: str | None = None, against: str = "check", **rewards: dict[str, float]) -> VotedPrompt:
    return VotedPrompt(against, worth, {c: f"text of {c}" for c in worth}, rewards, winner)  # type: ignore[arg-type]


RIGHT_AND_WRONG = {"a#0": 1.0, "b#0": 0.0}


def row_of(found: dict[str, Any], name: str, against: str = "check") -> dict[str, Any]:
    return next(r for r in found["scorers"] if (r["scorer"], r["against"]) == (name, against))


def test_pairs_are_ranked_right_wrong_or_equal() -> None:
    scores = [(2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (5.0, -5.0)]
    cases = [case(RIGHT_AND_WRONG, "a#0", rm={"a#0": a, "b#0": b}) for a, b in scores]
    found = measure_scorers(cases, scorers("rm"))
    row = row_of(found, "rm")
    assert (row["num_pairs"], row["accuracy"], row["num_prompts"]) == (4, 2.5 / 4, 4)
    assert row["picks_right"] == 2.5 / 4  # of equal scores either may be picked
    assert row["low"] <= row["accuracy"] <= row["high"]
    assert json.loads(json.dumps(found)) == found


def test_prompts_weigh_by_their_pairs_and_equal_answers_are_no_pair() -> None:
    cases = [
        case({"a#0": 1.0, "b#0": 0.0, "c#0": 0.0}, rm={"a#0": 3.0, "b#0": 2.0, "c#0": 1.0}),
        case({"a#0": 1.0, "b#0": 1.0}, rm={"a#0": 3.0, "b#0": 2.0}),
        case(RIGHT_AND_WRONG, rm={"a#0": 0.0, "b#0": 1.0}),
    ]
    row = row_of(measure_scorers(cases, scorers("rm")), "rm")
    assert (row["num_pairs"], row["accuracy"]) == (3, pytest.approx(2 / 3))


def test_without_a_pair_nothing_is_said_of_ranking() -> None:
    found = measure_scorers([case({"a#0": 1.0, "b#0": 1.0}, rm={"a#0": 3.0, "b#0": 2.0})], scorers("rm"))
    assert (row_of(found, "rm")["accuracy"], row_of(found, "rm")["num_pairs"], found["warnings"]) == (None, 0, [])
    assert measure_scorers([], scorers("rm"))["scorers"] == []


def test_a_scorer_at_chance_is_warned_of_and_a_good_one_is_not() -> None:
    cases = [
        case(RIGHT_AND_WRONG, coin={"a#0": float(i % 2), "b#0": 0.5}, good={"a#0": 1.0 if i % 10 else -1.0, "b#0": 0.0})
        for i in range(100)
    ]
    cases = [VotedPrompt(c.against, c.worth, c.texts, {**c.rewards, "mirror": {"a#0": 0.0, "b#0": 1.0}}, None) for c in cases]
    found = measure_scorers(cases, scorers("coin", "good", "mirror"))
    warned = " ".join(found["warnings"])
    assert "`coin` ranks answers no better than chance" in warned
    assert "`mirror`" in warned  # worse than chance
    assert "`good`" not in warned


def test_an_even_number_of_voters_is_warned_of() -> None:
    assert even_voters(scorers("a")) == even_voters(scorers("a", "b", "c")) == []
    assert "an even number of voters (2)" in even_voters(scorers("a", "b"))[0]


def test_a_scorer_that_is_the_measure_itself_is_right_by_definition() -> None:
    cases = [case(RIGHT_AND_WRONG, check={"a#0": 1.0, "b#0": 0.0}), case({"a#0": 0.3, "b#0": 0.2}, None, "reference")]
    found = measure_scorers(cases, scorers("check", kind="check"))
    assert row_of(found, "check")["by_definition"]
    assert len(found["scorers"]) == 1  # it abstains where rows have no check


def test_the_vote_stands_between_any_source_and_the_best_choice() -> None:
    cases = [case(RIGHT_AND_WRONG, "a#0"), case(RIGHT_AND_WRONG, "b#0"), case({"a#0": 0.0, "b#0": 0.0}, None)]
    (row,) = measure_scorers(cases, scorers("rm"))["picks"]
    assert row == {
        "against": "check",
        "num_prompts": 3,
        "vote": 0.5,
        "any_source": pytest.approx(1 / 3),
        "oracle": pytest.approx(2 / 3),
    }


def test_a_threshold_is_calibrated_on_checks_where_there_are_any() -> None:
    sure = [case(RIGHT_AND_WRONG, "a#0", rm={"a#0": 2.0, "b#0": 0.0}) for _ in range(30)]
    unsure = [case(RIGHT_AND_WRONG, "b#0", rm={"a#0": -3.0, "b#0": -2.0}) for _ in range(30)]
    unlike = [case({"a#0": 0.1}, "a#0", "reference", rm={"a#0": 9.0}) for _ in range(30)]
    found = calibrate([*sure, *unsure, *unlike], target=0.9)
    assert (found.num_accepted, found.num_winners, found.quality) == (30, 60, 1.0)
    assert calibrate(unlike, target=0.1).num_winners == 30
    with pytest.raises(ParamsError, match="accept_target"):
        calibrate(unlike, target=0.5)


def contest(example: Example, answers: dict[str, tuple[str, str]], rewards: dict[str, float]) -> ExampleScores:
    said = {c: Response(example.id, c[0], 0, text, 2, finish) for c, (text, finish) in answers.items()}  # type: ignore[arg-type]
    own = {c: SourceScore(1.0, 2, 4, True) for c in answers}
    return ExampleScores(example.id, example.family, {}, own, {"rm": rewards}, said)


def advantage(id_: str, winner: str | None, reason: str = "") -> Advantage:
    return Advantage(id_, "f", "a", winner, None if winner is None else 0, {}, {}, without_winner=reason)  # type: ignore[arg-type]


def test_cases_hold_only_answers_that_could_win() -> None:
    row = Example("x", "f", (Message("user", "17 + 25?"),), "It is 42.", "42", "number")
    answers = {"a#0": ("It is 42", "eos"), "b#0": ("It is 4", "length"), "c#0": (" ", "eos")}
    one = contest(row, answers, dict.fromkeys(answers, 0.5))
    made = make_voted_prompt(row, one, advantage("x", "a"), order=("a", "b", "c"), rules=VoteParams())
    assert (made.against, made.worth, made.winner) == ("check", {"a#0": 1.0}, "a#0")
    may = make_voted_prompt(row, one, advantage("x", "a"), order=("a", "b", "c"), rules=VoteParams(truncated_may_win=True))
    assert may.worth == {"a#0": 1.0, "b#0": 0.0}
    assert set(may.rewards["rm"]) == {"a#0", "b#0"}
    assert not may.cut
    won = make_voted_prompt(row, one, advantage("x", "b"), order=("a", "b", "c"), rules=VoteParams(truncated_may_win=True))
    assert (won.cut, winner_counts([made, won], [])["cut"]) == (True, 1)


def test_rows_without_a_check_are_measured_by_likeness() -> None:
    row = Example("x", "f", (Message("user", "?"),), "The bell rings.")
    answers = {"a#0": ("The bell rings.", "eos"), "b#0": ("A river.", "eos")}
    one = contest(row, answers, {"a#0": 1.0, "b#0": 0.0})
    made = make_voted_prompt(row, one, advantage("x", "a"), order=("a", "b"), rules=VoteParams())
    assert made.against == "reference"
    assert made.worth["a#0"] == pytest.approx(1.0)
    assert 0 <= made.worth["b#0"] < 0.5
    assert make_voted_prompt(row, one, advantage("x", "a"), order=("a", "b"), rules=VoteParams(), likeness=False).worth == {}


def test_winners_are_counted_with_what_was_possible() -> None:
    cases = [case(RIGHT_AND_WRONG, "a#0"), case(RIGHT_AND_WRONG, "b#0"), case(RIGHT_AND_WRONG, None), case({}, None)]
    rows = [advantage("1", "a"), advantage("2", "b"), advantage("3", None, "gate"), advantage("4", None, "empty")]
    assert winner_counts(cases, rows) == {
        "prompts": 4,
        "winners": 2,
        "cut": 0,
        "without_winner": {"gate": 1, "empty": 1},
        "checked": 2,
        "right": 1,
        "checked_prompts": 3,
        "possible": 3,
        "expected": 1.5,
    }
