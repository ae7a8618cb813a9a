"""Presets, steps, weights, learning rate and order."""

import math
import re

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import ParamsError
from models.fusion.exposure import Exposure, exposure
from models.fusion.prompt_pools import PromptPools
from models.fusion.schedule import ResolvedPhase, Weights, learning_rates, plan_steps, resolve_schedule
from models.params.fusion import METHODS, FusionParams, Phase
from models.records import from_row, to_row

PHASE = {"w_infer": 1.0, "w_train": 0.0}


def params(**changes: object) -> FusionParams:
    return FusionParams(**{"targets": ("scholar",), "lr": 1e-3, "warmup_ratio": 0.0, **changes})


def weights_of(method: str, cfg: FusionParams) -> list[tuple[float, float]]:
    return [(p.w_infer, p.w_train) for p in resolve_schedule(method, cfg)]


def test_presets_have_the_weights_of_the_paper():
    cfg = params(replay=0.2, simul_weight=0.5)
    assert weights_of("sft", cfg) == [(0, 1)]
    assert weights_of("fusellm", cfg) == [(0, 1)]
    assert weights_of("inference_only", cfg) == [(1, 0)]
    assert weights_of("profuser", cfg) == [(1, 0), (0.2, 1)]
    assert weights_of("simul", cfg) == [(0.5, 0.5)]
    assert weights_of("reverse", cfg) == [(0, 1), (1, 0.2)]
    assert weights_of("profuser", params()) == [(1, 0), (0.1, 1)]  # eq. 7


def test_only_sft_has_no_divergence_and_epochs_are_split_evenly():
    cfg = params(beta=0.3, epochs=3)
    for method in METHODS:
        phases = resolve_schedule(method, cfg)
        assert {p.beta for p in phases} == ({0.0} if method == "sft" else {0.3})
        assert sum(p.epochs for p in phases) == 3
        assert len({p.epochs for p in phases}) == 1
        assert {(p.lr, p.weights) for p in phases} == {(1e-3, "constant")}


def test_named_schedule_keeps_its_own_and_inherits_the_rest():
    phases = (Phase(w_infer=1, w_train=0.5, epochs=0.5), Phase(w_infer=0, w_train=1, beta=0, epochs=2, lr=1e-4, weights="cosine"))
    assert resolve_schedule("mine", params(schedules={"mine": phases}, beta=0.4)) == (
        ResolvedPhase(1, 0.5, 0.4, 0.5, 1e-3, "constant"),
        ResolvedPhase(0, 1, 0, 2, 1e-4, "cosine"),
    )


def test_unknown_method_is_refused_with_the_known_ones():
    cfg = params(schedules={"mine": [Phase(w_infer=1, w_train=0)]})
    known = r"must be one of sft, fusellm, inference_only, profuser, simul, reverse, mine, but is `profusser`"
    with pytest.raises(ParamsError, match=known):
        resolve_schedule("profusser", cfg)


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"sft": [PHASE]}, "must not name a schedule like a preset, but has `sft`"),
        ({"../x": [PHASE]}, "lower-case letters, digits and `_`, a letter first, 63 at most, but has `../x`"),
        ({"a-b": [PHASE]}, "a letter first, 63 at most, but has `a-b`"),
        ({"": [PHASE]}, "a letter first, 63 at most, but has ``"),
        ({"x" * 64: [PHASE]}, "63 at most, but has `xxx"),
        ({"mine": []}, "must have at least one phase in every schedule, but `mine` has none"),
    ],
)
def test_names_of_schedules_are_safe(schedules, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        params(schedules=schedules)


def test_the_old_key_names_its_cure():
    with pytest.raises(
        ValidationError, match=r"`schedule` is now one of `fusion\.schedules`, by name: write `schedules: \{my_sched"
    ):
        params(schedule=[PHASE])


@pytest.mark.parametrize("epochs", [1.0, 1.3, 2.0, 3.0])
@pytest.mark.parametrize(("num_prompts", "batch_size"), [(100, 10), (101, 10), (7, 2), (52_002, 128)])
def test_all_presets_take_the_same_steps(epochs, num_prompts, batch_size):
    cfg = params(epochs=epochs)
    totals = {plan_steps(resolve_schedule(m, cfg), num_prompts=num_prompts, batch_size=batch_size).total_steps for m in METHODS}
    assert totals == {math.ceil(round(epochs * math.ceil(num_prompts / batch_size), 6))}


def test_all_presets_follow_one_learning_rate_curve():
    cfg = params(warmup_ratio=0.1)
    plans = [plan_steps(resolve_schedule(m, cfg), num_prompts=64, batch_size=4) for m in METHODS]
    curves = {tuple(plan.lr_factor(step, cfg) for step in range(33)) for plan in plans}
    assert len(curves) == 1


def test_boundaries_of_fractional_epochs():
    plan = plan_steps(resolve_schedule("profuser", params(epochs=1)), num_prompts=70, batch_size=10)
    assert plan.boundaries == (0, 4, 7)  # half an epoch, 3.5 steps, is rounded up
    assert [plan.phase_at(s) for s in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_phase_without_steps_and_empty_split_are_refused():
    schedule = resolve_schedule("profuser", params(epochs=1))
    with pytest.raises(
        ParamsError, match=r"Phase 2 of 2 must have at least one optimiser step .* but is 0\.5 epochs, none.*Raise"
    ):
        plan_steps(schedule, num_prompts=8, batch_size=8)
    with pytest.raises(ParamsError, match="training split must have at least one prompt"):
        plan_steps(schedule, num_prompts=0, batch_size=8)


def test_weights_switch_at_the_boundary():
    plan = plan_steps(resolve_schedule("profuser", params(beta=0.11)), num_prompts=20, batch_size=10)
    assert [plan.weights_at(s) for s in range(4)] == [Weights(1, 0, 0.11, 0)] * 2 + [Weights(0.1, 1, 0.11, 1)] * 2


@pytest.mark.parametrize(("kind", "expected"), [("linear", [0.775, 0.55, 0.325, 0.1]), ("cosine", [0.8682, 0.55, 0.2318, 0.1])])
def test_weights_move_from_the_phase_before(kind, expected):
    phases = (Phase(w_infer=1, w_train=0), Phase(w_infer=0.1, w_train=1, weights=kind))
    plan = plan_steps(resolve_schedule("mine", params(schedules={"mine": phases})), num_prompts=4, batch_size=1)
    moved = [plan.weights_at(s) for s in range(4, 8)]
    assert [w.w_infer for w in moved] == pytest.approx(expected, abs=1e-4)
    assert [w.w_train for w in moved] == pytest.approx([(1 - e) / 0.9 for e in expected], abs=1e-4)
    assert plan.weights_at(3).w_infer == 1
    assert plan.weights_at(8) == plan.weights_at(7) == Weights(0.1, 1, 0.11, 1)


def test_first_phase_has_nothing_to_move_from():
    phases = (Phase(w_infer=0.3, w_train=0.7, weights="linear"),)
    plan = plan_steps(resolve_schedule("mine", params(schedules={"mine": phases})), num_prompts=4, batch_size=1)
    assert {(plan.weights_at(s).w_infer, plan.weights_at(s).w_train) for s in range(4)} == {(0.3, 0.7)}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]),
        ("cosine", [0.5, 1, 1, *(0.5 + 0.5 * math.cos(math.pi * i / 6) for i in range(1, 7))]),
    ],
)
def test_learning_rate_by_hand(shape, expected):
    """8 steps, 2 of them warm-up; after the last step the factor is asked for once more."""
    cfg = params(lr_schedule=shape, warmup_ratio=0.25)
    plan = plan_steps(resolve_schedule("profuser", cfg), num_prompts=4, batch_size=1)
    assert [plan.lr_factor(s, cfg) for s in range(9)] == pytest.approx(expected, abs=1e-12)


def test_restart_warms_up_and_decays_in_each_phase():
    cfg = params(lr_schedule="linear", warmup_ratio=0.25, optimiser_at_switch="restart")
    plan = plan_steps(resolve_schedule("profuser", cfg), num_prompts=4, batch_size=1)
    phase = [1, 1, 2 / 3, 1 / 3]
    assert [plan.lr_factor(s, cfg) for s in range(8)] == pytest.approx(phase * 2)


def test_learning_rate_of_a_phase_scales_its_steps():
    phases = (Phase(w_infer=1, w_train=0), Phase(w_infer=0, w_train=1, lr=2.5e-4))
    cfg = params(schedules={"mine": phases}, lr_schedule="constant")
    plan = plan_steps(resolve_schedule("mine", cfg), num_prompts=2, batch_size=1)
    assert [plan.lr_factor(s, cfg) for s in range(4)] == [1, 1, 0.25, 0.25]


def test_each_epoch_is_a_permutation_of_its_own_with_a_short_last_batch():
    plan = plan_steps(resolve_schedule("profuser", params()), num_prompts=11, batch_size=4)
    batches = [plan.order_at(s, seed=3) for s in range(plan.total_steps)]
    assert [len(b) for b in batches] == [4, 4, 3, 4, 4, 3]
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(11))
    assert first.tolist() != second.tolist()
    assert first.tolist() != np.concatenate([plan.order_at(s, seed=4) for s in range(3)]).tolist()


def test_order_is_the_same_for_all_methods_and_after_a_restart():
    plans = [plan_steps(resolve_schedule(m, params(epochs=1.5)), num_prompts=50, batch_size=8) for m in METHODS]
    for step in (9, 0, 10, 3):  # out of order, as after a resume
        orders = [plan.order_at(step, seed=1).tolist() for plan in plans]
        assert all(order == orders[0] for order in orders)


def test_caller_may_write_into_an_order():
    plan = plan_steps(resolve_schedule("sft", params()), num_prompts=5, batch_size=5)
    order = plan.order_at(0, seed=0)
    expected = order.tolist()
    order[:] = -1
    assert plan.order_at(0, seed=0).tolist() == expected


# --- prompts that lack a sample ----------------------------------------------------------------------------------------------

SOME = PromptPools.of(train=np.arange(0, 30), infer=np.arange(20, 40))


def drawn(plan, steps):
    return np.concatenate([plan.order_at(s, seed=0) for s in steps])


@pytest.mark.parametrize("budget", ["steps", "ground_truth"])
def test_phases_draw_from_the_prompts_that_can_teach_them(budget):
    cfg = params(epochs=4.0, budget=budget)
    for method, pools in (("sft", [range(30)]), ("inference_only", [range(20, 40)]), ("profuser", [range(20, 40), None])):
        plan = plan_steps(resolve_schedule(method, cfg), pools=SOME, batch_size=4, budget=budget)
        for phase, pool in enumerate(pools):
            found = drawn(plan, range(*plan.boundaries[phase : phase + 2]))
            both = range(30) if budget == "ground_truth" else range(40)
            assert set(found.tolist()) == set(pool or both), (method, phase)


def test_equal_steps_stay_equal_where_samples_are_missing():
    cfg = params(epochs=4.0)
    plans = {m: plan_steps(resolve_schedule(m, cfg), pools=SOME, batch_size=4) for m in METHODS}
    assert {plan.total_steps for plan in plans.values()} == {40}
    seen = {m: exposure(plan, cfg) for m, plan in plans.items()}
    assert seen["sft"].ground_truth.passes == pytest.approx(5, abs=0.2)  # 40 steps of 4 over 30 prompts, epochs ending in 2
    assert seen["inference_only"].winners.passes == 8


def test_a_pass_is_one_over_the_prompts_of_its_phase_under_ground_truth():
    cfg = params(epochs=2.0, budget="ground_truth", schedules={"mine": [{**PHASE, "epochs": 3.0}, {"w_infer": 0, "w_train": 1}]})
    plan = plan_steps(resolve_schedule("mine", cfg), pools=SOME, batch_size=4, budget="ground_truth")
    assert plan.boundaries == (0, 15, 31)
    seen = exposure(plan, cfg)
    assert (seen.winners.passes, seen.ground_truth.passes, seen.extra_steps) == (3, 2, 15)


@pytest.mark.parametrize(("method", "kind"), [("sft", "a ground truth"), ("profuser", "a winning answer")])
@pytest.mark.parametrize("budget", ["steps", "ground_truth"])
def test_phase_without_any_prompt_is_refused(method, kind, budget):
    nobody, some = np.arange(0), np.arange(8)
    pools = PromptPools.of(train=nobody, infer=some) if method == "sft" else PromptPools.of(train=some, infer=nobody)
    with pytest.raises(ParamsError, match=f"Phase 1 of . must have prompts with {kind}, but is without any"):
        plan_steps(resolve_schedule(method, params(budget=budget)), pools=pools, batch_size=4, budget=budget)


# --- equal passes over the ground truth --------------------------------------------------------------------------------------


def test_equal_steps_are_not_equal_exposure():
    """With the rate decaying, half of the steps on the ground truth get a fifth of its learning rate."""
    cfg = params(epochs=8.0, warmup_ratio=0.03)
    seen = {
        m: exposure(plan_steps(resolve_schedule(m, cfg), num_prompts=1200, batch_size=32), cfg).ground_truth
        for m in ("sft", "profuser")
    }
    assert seen["profuser"].passes / seen["sft"].passes == 0.5
    assert seen["profuser"].lr_sum / seen["sft"].lr_sum == pytest.approx(0.193, abs=0.001)


def test_profuser_under_ground_truth_is_sft_behind_an_extra_phase():
    cfg = params(epochs=4.0, budget="ground_truth", warmup_ratio=0.1)
    sft, ours = (
        plan_steps(resolve_schedule(m, cfg), num_prompts=50, batch_size=8, budget="ground_truth") for m in ("sft", "profuser")
    )
    assert sft.boundaries == (0, 28) and ours.boundaries == (0, 14, 42)
    for step in range(28):
        assert ours.lr_factor(14 + step, cfg) == sft.lr_factor(step, cfg)
        assert ours.order_at(14 + step, seed=3).tolist() == sft.order_at(step, seed=3).tolist()
    first = [ours.lr_factor(step, cfg) for step in range(14)]
    assert first[1] == max(first) == 1 and 0 < first[-1] < 0.1  # a curve of its own
    seen = exposure(ours, cfg)
    assert (seen.extra_steps, seen.total_steps) == (14, 42)
    assert seen.ground_truth.lr_sum == pytest.approx(exposure(sft, cfg).ground_truth.lr_sum, rel=1e-12)


def test_rates_of_their_own_are_relative_under_ground_truth():
    phases = [PHASE | {"lr": 5e-4}, {"w_infer": 0, "w_train": 1, "lr": 4e-3}, {"w_infer": 0, "w_train": 1, "lr": 2e-3}]
    cfg = params(epochs=2.0, budget="ground_truth", lr_schedule="constant", schedules={"mine": phases})
    plan = plan_steps(resolve_schedule("mine", cfg), num_prompts=40, batch_size=4, budget="ground_truth")
    assert [p.epochs for p in plan.schedule] == [1, 1, 1]
    assert learning_rates(plan, cfg).peaks == pytest.approx((5e-4, 4e-3 / 3, 2e-3 / 3))
    assert exposure(plan, cfg).ground_truth.lr_sum == pytest.approx(20)


# --- prompts without a ground truth ------------------------------------------------------------------------------------------

FEW = PromptPools.of(train=np.arange(0, 10), infer=np.arange(0, 60))


@pytest.mark.parametrize("budget", ["steps", "ground_truth"])
def test_inference_mode_draws_from_all_prompts_and_training_mode_from_those_with_a_ground_truth(budget):
    cfg = params(epochs=24.0, replay=1.0, budget=budget)
    for method in METHODS:
        plan = plan_steps(resolve_schedule(method, cfg), pools=FEW, batch_size=4, budget=budget)
        truths, winners = set(), set()
        for step in range(plan.total_steps):
            weights = plan.weights_at(step)
            winners |= set(plan.winners_at(step, seed=0).tolist()) if weights.w_infer > 0 else set()
            truths |= set(plan.order_at(step, seed=0).tolist()) if weights.w_train > 0 else set()
        if method not in ("sft", "fusellm"):
            assert winners == set(range(60)), method
        if method != "inference_only":
            assert truths & set(range(10)) == set(range(10)), method
            if budget == "ground_truth":
                assert truths == set(range(10)), method


def test_the_ground_truths_of_a_budget_are_the_same_beside_any_winners():
    cfg = params(epochs=6.0, budget="ground_truth")
    sft, ours = (
        plan_steps(resolve_schedule(m, cfg), pools=FEW, batch_size=4, budget="ground_truth") for m in ("sft", "profuser")
    )
    first = ours.boundaries[1]
    assert first == 3 * 15, "an epoch of phase 1 is over its own pool"
    assert [ours.order_at(first + s, seed=0).tolist() for s in range(18)] == [sft.order_at(s, seed=0).tolist() for s in range(18)]
    assert [ours.draws_apart(s) for s in range(ours.total_steps)] == [False] * first + [True] * 18
    # Replay goes on in the epochs of phase 1, so that all prompts come again as often.
    replayed = np.concatenate([ours.winners_at(first + s, seed=0) for s in range(15)])
    assert sorted(replayed.tolist()) == list(range(60))
    seen = exposure(ours, cfg)
    assert (seen.prompts_only, seen.ground_truth.passes) == (50, 6)
    assert seen.winners.passes == pytest.approx((3 * 60 + 18 * 4) / 60)


def test_an_epoch_of_equal_steps_is_over_all_prompts():
    cfg = params(epochs=2.0)
    plan = plan_steps(resolve_schedule("sft", cfg), pools=FEW, batch_size=4)
    assert plan.total_steps == 2 * 15
    assert exposure(plan, cfg).ground_truth.passes == pytest.approx(30 * 10 / 3 / 10)  # epochs of 3 steps over 10 prompts


@pytest.mark.parametrize("budget", ["steps", "ground_truth"])
def test_where_every_prompt_has_a_ground_truth_nothing_is_drawn_apart(budget):
    """Some without a winner, none without a ground truth: the winning answers are those of the same prompts."""
    pools = PromptPools.of(train=np.arange(40), infer=np.arange(3, 30))
    for method in METHODS:
        cfg = params(epochs=4.0, budget=budget)
        plan = plan_steps(resolve_schedule(method, cfg), pools=pools, batch_size=4, budget=budget)
        assert not any(plan.draws_apart(s) for s in range(plan.total_steps))
        assert "prompts_only" not in exposure(plan, cfg).to_json()


def test_counts_of_prompts_survive_the_record():
    cfg = params(epochs=2.0)
    seen = exposure(plan_steps(resolve_schedule("profuser", cfg), pools=FEW, batch_size=4), cfg)
    assert from_row(Exposure, to_row(seen)) == seen and seen.prompts_only == 50
