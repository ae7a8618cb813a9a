"""Micro-batches: the right tokens at the right places, the right prompts at the right steps."""

import logging

import numpy as np
import pytest

from models.errors import SignalError
from models.fusion.prompt_pools import PromptPools
from models.fusion.schedule import ResolvedPhase, plan_steps, resolve_schedule
from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.fusion.train.batches import FusionCollator, MicroBatchSampler
from models.fusion.train.prompt_signals import PairedSignals
from models.fusion.train.run import _trained_modes
from models.params.fusion import FusionParams

VOCAB, K = 50, 3


def sample(id_, prompt, response, has=None):
    rows = len(response)
    return SampleSignals(
        id=id_,
        token_ids=np.array(response, np.uint32),
        topk_ids=np.arange(rows * K, dtype=np.uint32).reshape(rows, K) % VOCAB,
        topk_logprobs=np.linspace(-1, -2, rows * K, dtype=np.float16).reshape(rows, K),
        tail=np.linspace(-3, -4, rows, dtype=np.float16),
        ce=np.ones(rows, np.float32),
        prompt_ids=np.array(prompt, np.uint32),
        has_teacher=np.ones(rows, np.bool_) if has is None else np.array(has, np.bool_),
    )


def store(folder, *samples):
    write_shard(folder, 0, SignalSpec("w", "m", "t", "t", "c", K, VOCAB, "aligned"), samples)
    return SignalStore.open(folder)


@pytest.fixture
def signals(tmp_path):
    train = store(tmp_path / "t", sample("a", [10, 11], [1, 2, 3]), sample("b", [12], [4, 5]), sample("c", [13, 14, 15], [6]))
    infer = store(tmp_path / "i", sample("d", [20], [7, 8]), sample("a", [10, 11], [9], has=[False]))
    return PairedSignals(train, infer, max_length=16)


def plan_of(signals, *, w_infer=1.0, w_train=1.0, beta=0.5, batch_size=4):
    return plan_steps([ResolvedPhase(w_infer, w_train, beta, 2.0, 1e-3)], num_prompts=len(signals), batch_size=batch_size)


def test_prompts_are_those_of_either_store(signals):
    assert len(signals) == 4  # a, b, c of the ground truth, then d
    assert signals.train.positions.tolist() == [0, 1, 2, -1]
    assert signals.infer.positions.tolist() == [1, -1, -1, 0]
    assert signals.train.num_tokens.tolist() == [3, 2, 1, 0]
    assert signals.infer.num_tokens.tolist() == [1, 0, 0, 2]
    assert (signals.train.counts.missing, signals.infer.counts.missing) == (1, 2)
    assert (signals.infer.counts.tokens, signals.infer.counts.without_teacher) == (3, 1)


@pytest.mark.parametrize("held", [(), ("b",)])
def test_prompts_without_a_winner_are_missing_in_inference_mode_only(tmp_path, held):
    """A store without rows, as the vote leaves it where nobody wins, and one with a single winner."""
    train = store(tmp_path / "t", sample("a", [10, 11], [1, 2, 3]), sample("b", [12], [4, 5]))
    infer = store(tmp_path / "i", *(sample(id_, [12], [7]) for id_ in held))
    signals = PairedSignals(train, infer, max_length=16)
    assert len(signals) == 2
    assert (signals.infer.counts.samples, signals.infer.counts.missing, signals.infer.counts.tokens) == (
        len(held),
        2 - len(held),
        len(held),
    )
    plan = plan_of(signals, batch_size=2)
    both = FusionCollator(signals, plan)([(0, 0), (0, 1)])
    assert both.row_ids == (*held, "a", "b")
    assert both.num_infer == len(held)
    only = FusionCollator(signals, plan_of(signals, w_train=0.0, batch_size=2))([(0, 0), (0, 1)])
    assert (only.row_ids, only.num_train) == (held, 0)


def test_layout_of_both_modes(signals):
    batch = FusionCollator(signals, plan_of(signals))([(0, 0), (0, 1), (0, 3)])  # a, b, d
    assert batch.row_ids == ("a", "d", "a", "b")
    # Prompt and response but for the last token; padded with 0.
    assert batch.input_ids.tolist() == [[10, 11, 0, 0], [20, 7, 0, 0], [10, 11, 1, 2], [12, 4, 0, 0]]
    assert batch.labels.tolist() == [9, 7, 8, 1, 2, 3, 4, 5]
    assert batch.positions.tolist() == [1, 4, 5, 9, 10, 11, 12, 13]
    assert (batch.num_infer, batch.num_train, batch.num_inputs) == (3, 5, 2 + 2 + 4 + 2)
    assert batch.infer_teacher.has.tolist() == [False, True, True]
    assert batch.train_teacher.has.tolist() == [True] * 5
    rows = [*signals.train.store["a"].topk_ids.tolist(), *signals.train.store["b"].topk_ids.tolist()]
    assert batch.train_teacher.ids.tolist() == rows
    np.testing.assert_array_equal(
        batch.train_teacher.logprobs.numpy(),
        np.concatenate([signals.train.store[i].topk_logprobs for i in "ab"]).astype(np.float32),
    )
    np.testing.assert_array_equal(
        batch.infer_teacher.tail.numpy(), np.concatenate([signals.infer.store[i].tail for i in "ad"]).astype(np.float32)
    )


@pytest.mark.parametrize(("w_infer", "w_train", "rows"), [(1.0, 0.0, ("a", "d")), (0.0, 1.0, ("a", "b")), (0.1, 1.0, None)])
def test_only_weighted_modes_are_read(signals, w_infer, w_train, rows):
    batch = FusionCollator(signals, plan_of(signals, w_infer=w_infer, w_train=w_train))([(0, 0), (0, 1), (0, 3)])
    assert batch.row_ids == (rows or ("a", "d", "a", "b"))
    assert (batch.num_infer > 0, batch.num_train > 0) == (w_infer > 0, w_train > 0)


def test_no_teacher_is_read_without_beta(signals):
    batch = FusionCollator(signals, plan_of(signals, beta=0.0))([(0, 0)])
    assert batch.infer_teacher is None and batch.train_teacher is None and batch.num_train == 3


@pytest.mark.parametrize("planned", [[], [(0, 1), (0, 2)]])
def test_batch_without_rows_has_one_empty_position(signals, planned):
    batch = FusionCollator(signals, plan_of(signals, w_train=0.0))(planned)  # b and c have no response
    assert batch.input_ids.shape == (1, 1) and batch.positions.shape == batch.labels.shape == (0,)
    assert (batch.num_infer, batch.num_train, batch.row_ids, batch.num_inputs) == (0, 0, (), 0)


def test_long_samples_are_cut_or_left_out(tmp_path, caplog):
    train = store(
        tmp_path / "t",
        sample("cut", [1, 2, 3], [4, 5, 6, 7], has=[True, False, True, True]),
        sample("fits", [1, 2], [3, 4, 5]),
        sample("full", [1, 2, 3, 4, 5], [6]),
    )
    with caplog.at_level(logging.WARNING):
        signals = PairedSignals(train, train, max_length=5)
    assert signals.train.num_tokens.tolist() == [2, 3, 0]
    counts = signals.train.counts
    assert (counts.samples, counts.cut, counts.prompt_too_long, counts.tokens, counts.without_teacher) == (2, 1, 1, 5, 1)
    assert "`fusion.max_length` leaves no room" in caplog.text
    batch = FusionCollator(signals, plan_of(signals, w_infer=0.0))([(0, 2), (0, 0), (0, 1)])
    assert batch.row_ids == ("cut", "fits")
    assert batch.input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert batch.labels.tolist() == [4, 5, 3, 4, 5] and batch.positions.tolist() == [2, 3, 5, 6, 7]
    assert batch.train_teacher.has.tolist() == [True, False, True, True, True]


def test_what_is_missing_is_a_warning_only_in_a_mode_that_is_trained(tmp_path, caplog):
    train = store(tmp_path / "t", sample("a", [1], [4]), sample("b", [1], [4]))
    infer = store(tmp_path / "i", sample("a", [1], [5]))
    with caplog.at_level(logging.WARNING):
        PairedSignals(train, infer, max_length=5, trained=_trained_modes(resolve_schedule("sft", FusionParams(targets=("x",)))))
        assert not caplog.records
        PairedSignals(train, infer, max_length=5, trained={"infer"})
    (record,) = caplog.records
    assert record.message.startswith("1 of 2 prompts train on a winning answer: 1 have none")


def test_sample_without_a_prompt_is_an_error(tmp_path):
    train = store(tmp_path / "t", sample("bare", [], [4, 5]))
    with pytest.raises(SignalError, match=r"`bare`.*must have a prompt"):
        PairedSignals(train, train, max_length=16)


def test_moving_a_batch_moves_every_tensor(signals):
    import torch

    batch = FusionCollator(signals, plan_of(signals))([(0, 0)])
    moved = batch.to(torch.device("meta"))
    teachers = (moved.infer_teacher, moved.train_teacher)
    tensors = [moved.input_ids, moved.positions, moved.labels]
    tensors += [t for teacher in teachers for t in (teacher.ids, teacher.logprobs, teacher.tail, teacher.has)]
    assert {t.device.type for t in tensors} == {"meta"}
    assert (moved.row_ids, moved.num_infer, moved.step) == (batch.row_ids, batch.num_infer, batch.step)


# --- which prompts when ------------------------------------------------------------------------------------------------------


def deal(plan, *, micro, accumulation, world, seed=0, lengths=None):
    cut = {"micro_batch_size": micro, "accumulation": accumulation, "world_size": world, "lengths": lengths}
    samplers = [MicroBatchSampler(plan, seed=seed, rank=rank, **cut) for rank in range(world)]
    assert all(len(list(s)) == len(s) == plan.total_steps * accumulation for s in samplers)
    return [list(s) for s in samplers]


@pytest.mark.parametrize(("micro", "accumulation", "world"), [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4), (4, 1, 2)])
def test_every_cut_of_a_step_has_the_same_prompts(micro, accumulation, world):
    plan = plan_steps([ResolvedPhase(1, 0, 0.1, 2.0, 1e-3)], num_prompts=21, batch_size=8)
    ranks = deal(plan, micro=micro, accumulation=accumulation, world=world)
    for step in range(plan.total_steps):
        cut = [batch for rank in ranks for batch in rank[step * accumulation : (step + 1) * accumulation]]
        assert all(len(batch) <= micro for batch in cut)
        assert {s for batch in cut for s, _ in batch} == {step}
        assigned = sorted(index for batch in cut for _, index in batch)
        assert assigned == sorted(plan.order_at(step, seed=0).tolist())


def test_a_step_is_dealt_by_length_to_micro_batches_and_ranks():
    plan = plan_steps([ResolvedPhase(1, 0, 0.1, 2.0, 1e-3)], num_prompts=21, batch_size=8)
    lengths = np.random.default_rng(0).integers(4, 60, 21)
    plain, ranks = (deal(plan, micro=2, accumulation=2, world=2, lengths=given) for given in (None, lengths))
    for step in range(plan.total_steps):
        cut = slice(step * 2, step * 2 + 2)
        assigned = [index for pair in zip(*(rank[cut] for rank in ranks), strict=True) for batch in pair for _, index in batch]
        assert (
            assigned
            == sorted(plan.order_at(step, seed=0).tolist(), key=lambda i: lengths[i])
            != plan.order_at(step, seed=0).tolist()
        )
        assert sorted(assigned) == sorted(index for rank in plain for batch in rank[cut] for _, index in batch)


def test_methods_see_the_same_prompts_at_the_same_steps():
    cfg = FusionParams(targets=("x",), epochs=2.0, batch_size=4, micro_batch_size=2)
    seen = [
        deal(plan_steps(resolve_schedule(m, cfg), num_prompts=10, batch_size=4), micro=2, accumulation=2, world=1)
        for m in ("sft", "fusellm", "inference_only", "profuser", "simul", "reverse")
    ]
    assert all(other == seen[0] for other in seen[1:])
    plan = plan_steps(resolve_schedule("sft", cfg), num_prompts=10, batch_size=4)
    assert deal(plan, micro=2, accumulation=2, world=1, seed=1) != seen[0]


# --- winning answers of other prompts than the ground truths ------------------------------------------------------------------


def apart_plan(signals, batch_size=2):
    phase = ResolvedPhase(1.0, 1.0, 0.5, 6.0, 1e-3)
    return plan_steps([phase], pools=signals.pools, batch_size=batch_size, budget="ground_truth")


@pytest.mark.parametrize(("micro", "accumulation", "world"), [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_a_step_that_draws_apart_deals_both_kinds_whole(micro, accumulation, world):
    pools = PromptPools.of(train=np.arange(20), infer=np.arange(50))
    plan = plan_steps([ResolvedPhase(1.0, 1.0, 0.1, 2.0, 1e-3)], pools=pools, batch_size=8, budget="ground_truth")
    lengths = np.random.default_rng(0).integers(4, 60, 50)
    ranks = deal(plan, micro=micro, accumulation=accumulation, world=world, lengths=lengths)
    for step in range(plan.total_steps):
        cut = [batch for rank in ranks for batch in rank[step * accumulation : (step + 1) * accumulation]]
        dealt = [index for batch in cut for _, index in batch]
        assert sorted(i for i in dealt if i >= 0) == sorted(plan.order_at(step, seed=0).tolist())
        assert sorted(~i for i in dealt if i < 0) == sorted(plan.winners_at(step, seed=0).tolist())
        assert all(sum(i >= 0 for _, i in batch) <= micro and sum(i < 0 for _, i in batch) <= micro for batch in cut)


def test_what_is_drawn_apart_is_read_apart(signals):
    """`a` has both samples: its ground truth is read where it was drawn for it, its answer where it was drawn for that."""
    plan = apart_plan(signals)
    assert plan.draws_apart(0)
    batch = FusionCollator(signals, plan)([(0, 0), (0, 1), (0, ~3)])
    assert batch.row_ids == ("d", "a", "b")
    assert (batch.num_infer, batch.num_train) == (2, 5)
    assert FusionCollator(signals, plan)([(0, 2), (0, ~0)]).row_ids == ("a", "c")
    for planned in MicroBatchSampler(plan, seed=0, micro_batch_size=2, accumulation=1):
        made = FusionCollator(signals, plan)(planned)
        assert 0 < len(made.row_ids) <= 4
