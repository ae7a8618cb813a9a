"""What must hold of the step plan for any schedule."""

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from models.errors import ParamsError
from models.fusion.exposure import exposure
from models.fusion.prompt_pools import PromptPools
from models.fusion.schedule import plan_steps, resolve_schedule
from models.params.fusion import METHODS, FusionParams, Phase

kinds = st.sampled_from(["constant", "linear", "cosine"])
phases = st.builds(
    Phase,
    w_infer=st.floats(0, 2),
    w_train=st.floats(0.1, 2),
    epochs=st.floats(0.3, 3),
    lr=st.none() | st.floats(1e-5, 1e-2),
    weights=kinds,
)


@given(
    st.lists(phases, min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(1, 16),
    kinds,
    st.floats(0, 0.9),
    st.sampled_from(["keep", "restart"]),
)
def test_weights_rates_and_boundaries_stay_in_range(schedule, num_prompts, batch_size, shape, warmup, switch):
    cfg = FusionParams(
        targets=("t",), schedules={"mine": tuple(schedule)}, lr_schedule=shape, warmup_ratio=warmup, optimiser_at_switch=switch
    )
    try:
        plan = plan_steps(resolve_schedule("mine", cfg), num_prompts=num_prompts, batch_size=batch_size)
    except ParamsError:
        return
    epochs = sum(p.epochs for p in schedule)
    assert plan.total_steps == math.ceil(epochs * -(-num_prompts // batch_size) - 1e-6)
    assert list(plan.boundaries) == sorted(set(plan.boundaries))
    previous = -1
    for step in range(plan.total_steps):
        index = plan.phase_at(step)
        assert plan.boundaries[index] <= step < plan.boundaries[index + 1]
        assert index in (previous, previous + 1)
        ends = [(p.w_infer, p.w_train) for p in (schedule[max(index - 1, 0)], schedule[index])]
        weights = plan.weights_at(step)
        for found, pair in zip((weights.w_infer, weights.w_train), zip(*ends, strict=True), strict=True):
            assert min(pair) - 1e-9 <= found <= max(pair) + 1e-9
        if step == plan.boundaries[index + 1] - 1:
            assert (weights.w_infer, weights.w_train) == ends[1]
        peak = (schedule[index].lr or cfg.lr) / cfg.lr
        assert 0 < plan.lr_factor(step, cfg) <= peak * (1 + 1e-9)
        previous = max(index, 0)


@given(st.floats(0.5, 4), st.integers(1, 80), st.integers(1, 16), st.integers(0, 9))
def test_presets_share_steps_and_prompts(epochs, num_prompts, batch_size, seed):
    cfg = FusionParams(targets=("t",), epochs=epochs)
    plans = []
    for method in METHODS:
        try:
            plans.append(plan_steps(resolve_schedule(method, cfg), num_prompts=num_prompts, batch_size=batch_size))
        except ParamsError:  # two phases in one step
            continue
    assert len({plan.total_steps for plan in plans}) <= 1
    steps_per_epoch = -(-num_prompts // batch_size)
    for plan in plans:
        seen: list[int] = []
        for step in range(min(plan.total_steps, steps_per_epoch)):
            order = plan.order_at(step, seed=seed)
            assert 1 <= len(order) <= batch_size
            assert order.tolist() == plans[0].order_at(step, seed=seed).tolist()
            seen += order.tolist()
        assert len(set(seen)) == len(seen)
        if plan.total_steps >= steps_per_epoch:
            assert sorted(seen) == list(range(num_prompts))


any_phase = st.tuples(
    st.sampled_from([(0.0, 1.0), (1.0, 0.0), (0.1, 1.0), (1.0, 1.0), (1.0, 0.3)]),
    st.floats(0.3, 3),
    st.none() | st.floats(1e-5, 1e-2),
    kinds,
).map(lambda t: Phase(w_infer=t[0][0], w_train=t[0][1], epochs=t[1], lr=t[2], weights=t[3]))


@given(
    st.lists(any_phase, min_size=1, max_size=4),
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 8),
    kinds,
    st.floats(0, 0.5),
    st.sampled_from(["keep", "restart"]),
    st.floats(1, 4),
)
def test_all_methods_spend_the_same_on_the_ground_truth(schedule, truths, winners, batch, shape, warmup, switch, epochs):
    """Under `budget: ground_truth`, whatever the schedule: the same passes, in the same order, at the same sum of rates."""
    cfg = FusionParams(
        targets=("t",),
        epochs=epochs,
        budget="ground_truth",
        schedules={"mine": tuple(schedule)},
        lr_schedule=shape,
        warmup_ratio=warmup,
        optimiser_at_switch=switch,
    )
    pools = PromptPools.of(train=np.arange(truths), infer=np.arange(max(truths - 3, 0), max(truths - 3, 0) + winners))
    plans = {}
    for method in ("sft", "mine", "profuser"):
        try:
            phases = resolve_schedule(method, cfg)
            plans[method] = plan_steps(phases, pools=pools, batch_size=batch, budget="ground_truth")
        except ParamsError:  # a phase in less than a step
            assume(method != "mine")
    assume(any(p.w_train for p in schedule))
    exposures = {method: exposure(plan, cfg) for method, plan in plans.items()}
    orders = {}
    for method, plan in plans.items():
        on_truth = [s for s in range(plan.total_steps) if plan.weights_at(s).w_train > 0]
        rates = math.fsum(plan.lr_factor(s, cfg) for s in on_truth)
        assert math.isclose(rates, exposures["sft"].ground_truth.lr_sum, rel_tol=1e-9), method
        assert math.isclose(rates, exposures[method].ground_truth.lr_sum, rel_tol=1e-9)
        assert exposures[method].ground_truth.passes == exposures["sft"].ground_truth.passes
        assert exposures[method].extra_steps == plan.total_steps - len(on_truth)
        orders[method] = [plan.order_at(s, seed=1).tolist() for s in on_truth]
        assert all(plan.lr_factor(s, cfg) > 0 for s in range(plan.total_steps))
        for step in range(plan.total_steps):  # no step without a sample of a mode it trains
            weights, prompts = plan.weights_at(step), plan.order_at(step, seed=1)
            there = [pools.train] * (weights.w_train > 0) + [pools.infer] * (weights.w_infer > 0)
            assert len(prompts) and np.isin(prompts, np.concatenate(there)).all()
    assert all(order == orders["sft"] for order in orders.values())
