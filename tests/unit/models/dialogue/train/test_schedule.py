import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.dialogue.train.schedule import DialogueSchedule, StepMode, turns_at
from models.params.dialogue import JointParams


def schedule(**joint):
    return DialogueSchedule(JointParams(**joint))


def test_parts():
    plan = schedule(generator_steps=2, steps=6, refresh={"every_steps": 2, "until_step": 4})
    assert plan.total_steps == 8
    modes = [plan.mode_at(step) for step in range(8)]
    assert modes == [StepMode(False, False)] * 2 + [StepMode(True, True)] * 4 + [StepMode(True, False)] * 2
    assert [done for done in range(1, 9) if plan.refresh_due(done)] == [4, 6, 8]


@pytest.mark.parametrize("joint", [{"retriever_lr": 0.0}, {"beta": 0.0}, {"steps": 0}, {"refresh": {"until_step": 0}}])
def test_frozen(joint):
    plan = schedule(**{"steps": 4, **joint})
    assert not plan.trains_retriever and not any(plan.mode_at(step).retriever for step in range(4))


def test_rates_are_linear_each_over_its_own_steps():
    plan = schedule(generator_steps=4, steps=4, warmup_ratio=0.25)
    assert [plan.generator_factor(s) for s in range(8)] == pytest.approx([0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert [plan.retriever_factor(s) for s in range(8)] == pytest.approx([0, 0, 0, 0, 1, 1, 2 / 3, 1 / 3])


def test_what_is_due():
    plan = schedule(steps=10, every_evaluation=4, every_checkpoint=5)
    assert [d for d in range(1, 11) if plan.evaluation_due(d)] == [4, 8, 10]
    assert [d for d in range(1, 11) if plan.checkpoint_due(d)] == [5]


def test_every_turn_comes_once_an_epoch_whatever_the_batch():
    stream = np.concatenate([turns_at(s, num_turns=7, batch_size=5, seed=3) for s in range(7)])
    epochs = stream.reshape(5, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert np.array_equal(np.concatenate([turns_at(s, num_turns=7, batch_size=7, seed=3) for s in range(5)]), stream)
    assert not np.array_equal(turns_at(0, num_turns=7, batch_size=7, seed=4), epochs[0])
    assert len(turns_at(0, num_turns=3, batch_size=8, seed=0)) == 8


@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 30), st.integers(0, 5))
def test_steps_are_cut_from_whole_permutations(num_turns, batch_size, step, seed):
    """As if every step drew the permutations of all epochs before it."""
    epochs = (step + 1) * batch_size // num_turns + 1
    stream = np.concatenate([np.random.default_rng([seed, epoch]).permutation(num_turns) for epoch in range(epochs)])
    expected = stream[step * batch_size : (step + 1) * batch_size]
    assert np.array_equal(turns_at(step, num_turns=num_turns, batch_size=batch_size, seed=seed), expected)


def test_an_epoch_is_drawn_once(monkeypatch):
    drawn = []
    plain = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: drawn.append(key) or plain(key))
    for step in range(30):
        turns_at(step, num_turns=101, batch_size=10, seed=977)
    assert drawn == [[977, epoch] for epoch in range(3)]
