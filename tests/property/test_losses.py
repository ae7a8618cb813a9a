"""What must hold of the divergence and the fused loss for any rows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.fusion.buckets import TeacherRows
from models.fusion.losses import fusion_loss, fusion_loss_from_logits, sparse_kl
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR

temperatures = st.sampled_from([0.5, 1.0, 2.0, 7.0])
tails = st.sampled_from(["bucket", "renormalise"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, TeacherRows, Tensor]:
    """Logits [N, V], teacher rows as a store holds them (float16 rounding, floor, padding), labels."""
    rows, vocab = draw(st.integers(1, 12)), draw(st.integers(2, 40))
    k = draw(st.integers(1, vocab))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    sharpness = draw(st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    logits = sharpness * torch.randn(rows, vocab, generator=generator, dtype=torch.float64)
    full = torch.log_softmax(sharpness * torch.randn(rows, vocab, generator=generator, dtype=torch.float64), dim=1)
    logprobs, ids = full.topk(k, dim=1)
    tail = torch.log((1 - logprobs.exp().sum(dim=1)).clamp(min=1e-8)).half().double()
    logprobs = logprobs.clamp(min=-90).half().double()
    padded = torch.arange(k) >= draw(st.integers(1, k))
    ids[:, padded], logprobs[:, padded] = 0, PAD_LOGPROB
    has = torch.rand(rows, generator=generator) < 0.8
    return logits, TeacherRows(ids, logprobs, tail, has), torch.randint(vocab, (rows,), generator=generator)


def fused(
    logits: Tensor, labels: Tensor, teacher: TeacherRows, *, chunk: int, **options: object
) -> tuple[Tensor, Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = fusion_loss(
        leaf, torch.eye(logits.shape[1], dtype=leaf.dtype), None, labels, teacher, beta=0.3, chunk=chunk, **options
    )
    loss.objective.backward()
    return loss.sft, loss.kl, leaf.grad


@given(problems(), temperatures, tails)
@settings(deadline=None, max_examples=80)
def test_divergence_is_never_negative_and_absent_rows_are_zero(problem, temperature, tail):
    logits, teacher, _ = problem
    kl = sparse_kl(logits, teacher, temperature=temperature, tail=tail)
    assert torch.isfinite(kl).all()
    assert kl.min() > -1e-9
    assert kl[~teacher.has].eq(0).all()


@given(st.integers(2, 40), st.integers(0, 2**31), temperatures, st.data())
@settings(deadline=None, max_examples=60)
def test_divergence_of_equal_distributions_is_zero(vocab, seed, temperature, data):
    k = data.draw(st.integers(1, vocab - 1))
    logits = 2 * torch.randn(4, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    full = torch.log_softmax(logits, dim=1)
    logprobs, ids = full.topk(k, dim=1)
    outside = full.scatter(1, ids, -torch.inf).logsumexp(dim=1)
    teacher = TeacherRows(ids, logprobs, outside, torch.ones(4, dtype=torch.bool))
    _, kl, gradient = fused(logits, ids[:, 0], teacher, chunk=4, temperature=temperature)
    assert kl.abs().max() < 1e-9
    labels_only = torch.softmax(logits, dim=1)
    labels_only[torch.arange(4), ids[:, 0]] -= 1
    torch.testing.assert_close(gradient, labels_only, atol=1e-8, rtol=1e-8)


@given(problems(), temperatures, tails, st.integers(1, 13))
@settings(deadline=None, max_examples=60)
def test_chunks_change_nothing(problem, temperature, tail, chunk):
    logits, teacher, labels = problem
    whole = fused(logits, labels, teacher, chunk=10_000, temperature=temperature, tail=tail)
    parts = fused(logits, labels, teacher, chunk=chunk, temperature=temperature, tail=tail)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@given(problems(), temperatures, tails, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_order_of_the_top_k_changes_nothing(problem, temperature, tail, random):
    logits, teacher, labels = problem
    order = list(range(teacher.ids.shape[1]))
    random.shuffle(order)
    shuffled = TeacherRows(teacher.ids[:, order], teacher.logprobs[:, order], teacher.tail, teacher.has)
    before = fused(logits, labels, teacher, chunk=5, temperature=temperature, tail=tail)
    after = fused(logits, labels, shuffled, chunk=5, temperature=temperature, tail=tail)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@given(problems(), temperatures, tails)
@settings(deadline=None, max_examples=60)
def test_closed_form_gradient_is_that_of_autograd(problem, temperature, tail):
    logits, teacher, labels = problem
    leaf = logits.clone().requires_grad_()
    fusion_loss_from_logits(leaf, labels, teacher, beta=0.3, temperature=temperature, tail=tail).objective.backward()
    *_, gradient = fused(logits, labels, teacher, chunk=4, temperature=temperature, tail=tail)
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-8, atol=1e-10)
    assert gradient.sum(dim=1).abs().max() < 1e-9  # a softmax ignores a shift of all logits


@given(problems(), temperatures, tails)
@settings(deadline=None, max_examples=40)
def test_float32_stays_near_float64(problem, temperature, tail):
    logits, teacher, labels = problem
    single = TeacherRows(teacher.ids, teacher.logprobs.float(), teacher.tail.float(), teacher.has)
    logits = logits.float()
    wide = fused(logits.double(), labels, teacher, chunk=4, temperature=temperature, tail=tail)
    narrow = fused(logits, labels, single, chunk=4, temperature=temperature, tail=tail)
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=2e-5)


def test_the_floor_of_the_store_is_the_floor_of_the_loss():
    assert abs(float(torch.tensor(TAIL_FLOOR).exp()) - 1e-8) < 1e-13
