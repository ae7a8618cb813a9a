import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from models.training.learning_rate import cosine_schedule, linear_factor, rate_curve


def optimiser(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(num_steps, warmup, lr=1.0):
    """The rate at each step of a loop under `cosine_schedule`."""
    plain = optimiser(lr)
    schedule, found = cosine_schedule(plain, num_steps=num_steps, warmup=warmup), []
    for _ in range(num_steps):
        found.append(plain.param_groups[0]["lr"])
        plain.step()
        schedule.step()
    return found


def test_cosine_warms_up_and_decays_to_a_floor():
    factors = rates(100, 10)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert all(a < b for a, b in pairwise(factors[:11]))
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.525)
    assert 0.05 <= factors[-1] < 0.052
    assert rates(3, 20) == pytest.approx([1 / 21, 2 / 21, 3 / 21])


@given(st.integers(1, 80), st.integers(0, 90), st.floats(1e-6, 1.0))
def test_cosine_is_the_printed_formula_bit_for_bit(num_steps, warmup, lr):
    """Embedded sources trained earlier depend on every bit."""
    expected = []
    for step in range(num_steps):
        done = (step - warmup) / max(1, num_steps - warmup)
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
        expected.append(lr * ((step + 1) / (warmup + 1) if step < warmup else cosine))
    assert rates(num_steps, warmup, lr) == expected


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (19, 1 / 16)])
def test_linear_rises_and_falls(step, factor):
    assert linear_factor(step, num_steps=20, warmup=4) == pytest.approx(factor)


@given(st.integers(1, 80), st.data())
def test_linear_decays_as_in_transformers(num_steps, data):
    warmup = data.draw(st.integers(0, num_steps))
    theirs = get_linear_schedule_with_warmup(optimiser(), warmup, num_steps).lr_lambdas[0]
    for step in range(warmup, num_steps):
        assert linear_factor(step, num_steps=num_steps, warmup=warmup) == theirs(step)


@given(st.integers(1, 80), st.floats(0, 0.99))
def test_curve_is_the_plain_formula_bit_for_bit(num_steps, ratio):
    curve = rate_curve(num_steps, warmup_ratio=ratio, decay="linear")
    warmup = math.ceil(ratio * num_steps - 1e-9)
    for step in range(num_steps + 1):
        decay = 1 - (step - warmup) / max(num_steps - warmup, 1)
        assert curve[step] == ((step + 1) / warmup if step < warmup else decay)


@pytest.mark.parametrize(("decay", "end"), [("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)])
def test_curve_has_no_step_at_rate_zero(decay, end):
    curve = rate_curve(40, warmup_ratio=0.1, decay=decay)
    assert curve[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert (curve[:-1] > 0).all() and curve[-1] == end and curve.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        curve[0] = 0
