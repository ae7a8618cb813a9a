"""The results table and the paired comparisons."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.bootstrap import mean_interval, paired_difference

from models.errors import DataError
from models.evaluation.bootstrap import Resampling, ratio_interval
from models.evaluation.fusion.claims import Pair, claim_pairs
from models.evaluation.fusion.comparison import (
    aggregate,
    check_same_examples,
    choose_best_source,
    collect_values,
    headline_metric,
    list_families,
    list_metrics,
    paired,
)
from models.evaluation.fusion.scores import ScoreRow, System

_HOW = Resampling(samples=300, seed=2)
_SCHOLAR, _SOLVER = System("scholar", "source"), System("solver", "source")
_UNTRAINED = System("scholar", "untrained", "scholar")
_SFT, _FUSELLM, _PROFUSER, _SIMUL = (System(m, "method", "scholar") for m in ("sft", "fusellm", "profuser", "simul"))


def _rows(rate: float, bits: float, *, seed: int, num: int = 40) -> list[ScoreRow]:
    rng = np.random.default_rng(seed)
    return [
        ScoreRow(
            id=f"{i:03}",
            family="knowledge" if i % 2 else "reasoning",
            nll=float(bits * (5 + i) * math.log(2)),
            num_bytes=5 + i,
            num_tokens=3,
            lossless=True,
            correct=bool(rng.random() < rate),
            rewards={"rm": float(rng.normal(rate))},
            text="x",
        )
        for i in range(num)
    ]


@pytest.fixture(scope="module")
def scores() -> dict[System, list[ScoreRow]]:
    return {
        _SCHOLAR: _rows(0.4, 2.0, seed=1),
        _SOLVER: _rows(0.6, 3.0, seed=2),
        _UNTRAINED: _rows(0.4, 2.0, seed=1),
        _SFT: _rows(0.5, 1.9, seed=3),
        _FUSELLM: _rows(0.6, 1.8, seed=4),
        _PROFUSER: _rows(0.9, 1.5, seed=5),
    }


def test_the_table_has_every_cell_with_its_interval(scores: dict[System, list[ScoreRow]]) -> None:
    table = aggregate(scores, resampling=_HOW)
    assert len(table) == 6 * 3 * 3
    cell = next(r for r in table if (r.system, r.family, r.metric) == (_PROFUSER, "reasoning", "accuracy"))
    right = [float(bool(r.correct)) for r in scores[_PROFUSER] if r.family == "reasoning"]
    alone = mean_interval(right, resampling=_HOW)
    assert (cell.value, cell.low, cell.high, cell.num) == pytest.approx((alone.value, alone.low, alone.high, 20))


def test_bits_per_byte_is_a_ratio_of_sums_over_the_corpus() -> None:
    rows = [
        ScoreRow("1", "x", 10 * math.log(2), 1, 1, True),
        ScoreRow("2", "x", 10 * math.log(2), 19, 1, True),
    ]
    (everything, one) = aggregate({_SCHOLAR: rows}, resampling=_HOW)
    assert (everything.family, one.family) == ("all", "x")
    assert everything.value == pytest.approx(1.0)
    assert everything.value == pytest.approx(ratio_interval([10.0, 10.0], [1.0, 19.0]).value)


def test_a_difference_equals_that_of_the_table_and_is_paired(scores: dict[System, list[ScoreRow]]) -> None:
    table = {(r.system, r.family, r.metric): r.value for r in aggregate(scores, resampling=_HOW)}
    rows = paired(scores, [Pair(_PROFUSER, _SFT)], resampling=_HOW)
    assert {(r.family, r.metric) for r in rows} == {
        (f, m) for f in ("all", "knowledge", "reasoning") for m in ("accuracy", "bits_per_byte", "reward/rm")
    }
    for row in rows:
        gap = table[_PROFUSER, row.family, row.metric] - table[_SFT, row.family, row.metric]
        assert row.value == pytest.approx(gap, abs=1e-12)
    a, b = ([float(bool(r.correct)) for r in scores[s]] for s in (_PROFUSER, _SFT))
    got = next(r for r in rows if (r.family, r.metric) == ("all", "accuracy"))
    alone = paired_difference(a, b, resampling=_HOW)
    assert (got.low, got.high, got.p) == pytest.approx((alone.low, alone.high, alone.p))
    assert got.verdict == "better"
    assert next(r for r in rows if (r.family, r.metric) == ("all", "bits_per_byte")).verdict == "better"


def test_lossy_rows_leave_the_same_denominator_everywhere(scores: dict[System, list[ScoreRow]]) -> None:
    lossy = [ScoreRow(r.id, r.family, 1.0, r.num_bytes, 1, False) if r.id == "001" else r for r in scores[_SOLVER]]
    rows = [r for r in aggregate(scores | {_SOLVER: lossy}, resampling=_HOW) if r.metric == "bits_per_byte"]
    assert {(r.family, r.num, r.left_out) for r in rows} == {("all", 39, 1), ("knowledge", 19, 1), ("reasoning", 20, 0)}


def test_a_family_with_nothing_left_has_no_row() -> None:
    rows = [ScoreRow("1", "x", 1.0, 1, 1, False), ScoreRow("2", "y", 1.0, 1, 1, True)]
    assert [(r.family, r.left_out) for r in aggregate({_SCHOLAR: rows}, resampling=_HOW)] == [("all", 1), ("y", 0)]


def test_the_best_source_is_chosen_per_metric(scores: dict[System, list[ScoreRow]]) -> None:
    best = choose_best_source(scores, chosen_on="valid")
    assert best.systems["accuracy"] == _SOLVER
    assert best.systems["bits_per_byte"] == _SCHOLAR
    assert best.note == "best source chosen on valid"
    assert "oracle" in choose_best_source(scores, chosen_on="test").note


def test_the_first_source_wins_ties() -> None:
    same = _rows(0.5, 1.0, seed=1)
    assert set(choose_best_source({_SOLVER: same, _SCHOLAR: same}, chosen_on="valid").systems.values()) == {_SOLVER}


def test_the_claims_are_all_there(scores: dict[System, list[ScoreRow]]) -> None:
    best = choose_best_source(scores, chosen_on="valid")
    pairs = claim_pairs([*scores, _SIMUL], best=best)
    plain = [(p.a.name, p.b.name, p.b.kind) for p in pairs if p.metric is None]
    assert plain == [
        ("profuser", "sft", "method"),
        ("profuser", "fusellm", "method"),
        ("sft", "scholar", "untrained"),
        ("fusellm", "scholar", "untrained"),
        ("profuser", "scholar", "untrained"),
        ("simul", "scholar", "untrained"),
    ]
    by_metric = {p.metric: p.b for p in pairs if p.metric}
    assert by_metric == dict(best.systems)
    rows = paired(scores, claim_pairs(list(scores), best=best), families=["all"], resampling=_HOW)
    against = [r for r in rows if r.note]
    assert [(r.metric, r.b) for r in against] == [(m, best.systems[m]) for m in ("accuracy", "bits_per_byte", "reward/rm")]


def test_claims_without_their_systems_are_dropped_and_targets_stay_apart() -> None:
    other = System("profuser", "method", "solver")
    pairs = claim_pairs([_PROFUSER, _SFT, other])
    assert [(p.a, p.b) for p in pairs] == [(_PROFUSER, _SFT)]


def test_an_unknown_system_is_named(scores: dict[System, list[ScoreRow]]) -> None:
    with pytest.raises(DataError, match="simul → scholar"):
        paired(scores, [Pair(_SIMUL, _SFT)])


def test_the_headline_is_accuracy_where_there_is_any() -> None:
    assert headline_metric(["bits_per_byte", "accuracy"]) == "accuracy"
    assert headline_metric(["bits_per_byte", "reward/rm"]) == "bits_per_byte"


_A, _B = System("a", "source"), System("b", "source")
_BIT = math.log(2)


def _row(name: str, family: str, *, bits: float = 8.0, size: int = 4, lossless: bool = True, **more: object) -> ScoreRow:
    return ScoreRow(name, family, bits * _BIT, size, 3, lossless, **more)  # type: ignore[arg-type]


def test_a_text_lossy_for_one_system_is_left_out_for_all_and_counted() -> None:
    scores = {
        _A: [_row("1", "x"), _row("2", "x", size=2), _row("3", "y")],
        _B: [_row("1", "x"), _row("2", "x", lossless=False), _row("3", "y", bits=2.0)],
    }
    values = collect_values(scores, "bits_per_byte")
    assert values.families.tolist() == ["x", "y"]
    assert values.sizes.tolist() == [4.0, 4.0]
    assert values.values[_B].tolist() == pytest.approx([8.0, 2.0])
    assert (values.num_left_out("x"), values.num_left_out("y"), values.num_left_out("all")) == (1, 0, 1)


def test_rows_without_a_check_are_not_left_out_but_not_asked() -> None:
    scores = {s: [_row("1", "x", correct=True), _row("2", "x")] for s in (_A, _B)}
    values = collect_values(scores, "accuracy")
    assert values.values[_A].tolist() == [1.0]
    assert values.num_left_out("all") == 0


def test_a_system_that_was_not_asked_does_not_take_part() -> None:
    scores = {_A: [_row("1", "x", correct=True)], _B: [_row("1", "x")]}
    values = collect_values(scores, "accuracy")
    assert list(values.values) == [_A]
    assert values.num_left_out("all") == 0


def test_a_reward_missing_in_one_system_leaves_the_row_out_everywhere() -> None:
    scores = {
        _A: [_row("1", "x", rewards={"rm": 1.0}), _row("2", "x", rewards={"rm": 2.0})],
        _B: [_row("1", "x", rewards={"rm": 3.0}), _row("2", "x")],
    }
    values = collect_values(scores, "reward/rm")
    assert values.values[_A].tolist() == [1.0]
    assert values.num_left_out("x") == 1
    assert np.array_equal(values.sizes, [1.0])


def test_metrics_and_families_are_listed_in_a_fixed_order() -> None:
    scores = {_A: [_row("1", "y", correct=False, rewards={"rm": 1.0, "chrf": 2.0}), _row("2", "x")]}
    assert list_metrics(scores) == ["accuracy", "bits_per_byte", "reward/chrf", "reward/rm"]
    assert list_families(scores) == ["all", "x", "y"]
    assert list_metrics({_A: [_row("1", "x")]}) == ["bits_per_byte"]


@pytest.mark.parametrize("other", [["1"], ["1", "3"], ["2", "1"], ["1", "2", "3"]])
def test_other_examples_are_refused(other: list[str]) -> None:
    scores = {_A: [_row("1", "x"), _row("2", "x")], _B: [_row(i, "x") for i in other]}
    with pytest.raises(DataError, match="system `b`"):
        check_same_examples(scores)


def test_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one system"):
        check_same_examples({})


def test_examples_without_a_ground_truth_count_for_rewards_but_not_for_likelihood(scores: dict[System, list[ScoreRow]]) -> None:
    """They are not left out for want of a score: nothing was asked of them."""

    def alone(row: ScoreRow) -> ScoreRow:
        return replace(row, nll=None, num_bytes=0, num_tokens=0, correct=None)

    some = {system: [alone(row) if i < 10 else row for i, row in enumerate(rows)] for system, rows in scores.items()}
    table = {row.metric: row for row in aggregate(some, resampling=_HOW) if (row.system, row.family) == (_SFT, "all")}
    assert {metric: (row.num, row.left_out) for metric, row in table.items()} == {
        "accuracy": (30, 0),
        "bits_per_byte": (30, 0),
        "reward/rm": (40, 0),
    }
    rest = {system: rows[10:] for system, rows in scores.items()}
    same = next(r for r in aggregate(rest, resampling=_HOW) if (r.system, r.family, r.metric) == (_SFT, "all", "bits_per_byte"))
    assert table["bits_per_byte"].value == same.value
    none = {system: [alone(row) for row in rows] for system, rows in scores.items()}
    assert list_metrics(none) == ["reward/rm"]
