"""Which candidate is chosen: by clear differences, by cost where they are not clear, and what the second metric says."""

import math
from collections.abc import Mapping, Sequence

import pytest

from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.recommendation import Recommendation, recommend, with_mean_reward
from models.evaluation.fusion.scores import ScoreRow, System

HOW = Resampling(samples=300, seed=1)
SFT, PROFUSER, INFERENCE = (System(name, "method", "solver") for name in ("sft", "profuser", "inference_only"))
UNTRAINED = System("solver", "untrained", "solver")
COSTS = {SFT: 10.0, PROFUSER: 30.0, INFERENCE: 20.0}


def rows(right: Sequence[bool | None], bits: float | None = None, rewards: Sequence[Mapping[str, float]] = ()) -> list[ScoreRow]:
    """Rows of 10 bytes; `bits` per byte differ a little from row to row."""
    nlls = [None if bits is None else (10 * bits + 0.01 * (i % 5)) * math.log(2) for i in range(len(right))]
    given = rewards or [{}] * len(right)
    return [
        ScoreRow(str(i), "f", nll, 0 if nll is None else 10, 1, lossless=True, correct=c, rewards=r, text="x")
        for i, (c, nll, r) in enumerate(zip(right, nlls, given, strict=True))
    ]


def share(number: int, *, first: int = 0, of: int = 100) -> list[bool | None]:
    """`number` right answers of `of`, from row `first` on."""
    return [first <= i < first + number for i in range(of)]


def chosen(scores: Mapping[System, Sequence[ScoreRow]], costs: Mapping[System, float] = COSTS) -> Recommendation:
    found = recommend(scores, [s for s in scores if s.kind == "method"], costs=costs, resampling=HOW)
    assert found is not None
    return found


def test_a_clear_winner_is_chosen_though_it_is_the_dearest() -> None:
    found = chosen({SFT: rows(share(40)), PROFUSER: rows(share(80)), INFERENCE: rows(share(60)), UNTRAINED: rows(share(10))})
    assert (found.pick, found.lead.metric, found.lead.clear, found.alternative) == (PROFUSER, "accuracy", True, None)
    gap = found.lead.differences[SFT]
    assert gap.value == pytest.approx(-0.4) and gap.low < -0.4 < gap.high < 0 and gap.verdict == "worse"
    assert found.lead.gains[UNTRAINED].value == pytest.approx(0.7)


def test_of_those_that_are_not_told_apart_the_cheapest_is_chosen() -> None:
    """The best is right on 62 rows, `sft` on 60 others and the same: the difference may be chance; `profuser` is out."""
    scores = {SFT: rows(share(60, first=10)), PROFUSER: rows(share(20)), INFERENCE: rows(share(62))}
    found = chosen(scores)
    assert (found.lead.best, found.lead.equals, found.pick, found.lead.clear) == (INFERENCE, (SFT, INFERENCE), SFT, False)
    assert chosen(scores, COSTS | {SFT: 21.0}).pick == INFERENCE
    assert chosen(scores, COSTS | {SFT: 20.0}).pick == INFERENCE, "at equal cost the better value"


def test_differences_are_paired_by_row() -> None:
    """Four points on the very same rows are clear, where two independent samples of 100 would not tell them apart."""
    found = chosen({SFT: rows(share(50)), PROFUSER: rows(share(58))})
    assert found.lead.clear and found.pick == PROFUSER


def test_the_metrics_may_disagree() -> None:
    found = chosen({SFT: rows(share(40), 1.0), INFERENCE: rows(share(80), 2.0)})
    assert (found.pick, found.alternative) == (INFERENCE, SFT)
    assert found.second is not None and found.second.values[SFT].value == pytest.approx(1.002)
    same = chosen({SFT: rows(share(40), 2.0), INFERENCE: rows(share(80), 2.0)})
    assert same.alternative is None, "bits per byte that are not told apart contradict nothing"


def test_a_cheap_equal_that_the_second_metric_finds_worse() -> None:
    found = chosen({SFT: rows(share(60), 2.0), PROFUSER: rows(share(60), 1.0)})
    assert (found.pick, found.alternative, set(found.lead.equals)) == (SFT, PROFUSER, {SFT, PROFUSER})


def test_where_hardly_anybody_is_right_accuracy_does_not_lead() -> None:
    few = {SFT: rows(share(2), 1.0), PROFUSER: rows(share(4), 2.0)}
    found = chosen(few)
    assert (found.lead.metric, found.pick, found.second) == ("bits_per_byte", SFT, None)


def test_without_checks_the_reward_leads() -> None:
    none: list[bool | None] = [None] * 50
    low, high = ([{"rm": 0.1 * (i % 3) + shift} for i in range(50)] for shift in (0.0, 1.0))
    found = chosen({SFT: rows(none, 1.0, low), INFERENCE: rows(none, 2.0, high)})
    assert (found.lead.metric, found.pick, found.alternative) == ("reward/rm", INFERENCE, SFT)


def test_with_nothing_to_measure_there_is_no_choice() -> None:
    assert recommend({INFERENCE: rows([None] * 5)}, [INFERENCE], costs=COSTS) is None


def test_several_scorers_are_one_on_a_common_scale() -> None:
    """A scorer of a thousand times the scale has no more to say; one that sees the ground truth has nothing to say."""
    a = rows([None] * 2, rewards=[{"rm": 1.0, "judge": 1000.0, "chrf": 9.0}, {"rm": 3.0, "judge": 1000.0, "chrf": 9.0}])
    b = rows([None] * 2, rewards=[{"rm": 1.0, "judge": 3000.0, "chrf": 0.0}, {"rm": 3.0, "judge": 3000.0, "chrf": 0.0}])
    found = with_mean_reward({SFT: a, PROFUSER: b}, ["rm", "judge"])
    assert [row.rewards for row in found[SFT]] == [{"mean": pytest.approx(-1.0)}, {"mean": pytest.approx(0.0)}]
    assert [row.rewards for row in found[PROFUSER]] == [{"mean": pytest.approx(0.0)}, {"mean": pytest.approx(1.0)}]
    assert [row.rewards for row in with_mean_reward({SFT: a}, ["rm"])[SFT]] == [{"rm": 1.0}, {"rm": 3.0}]
    assert [row.rewards for row in with_mean_reward({SFT: a}, [])[SFT]] == [{}, {}]
