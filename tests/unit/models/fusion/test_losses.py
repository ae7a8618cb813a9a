"""The fused loss against a dense float64 reference that follows the definition literally."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.buckets import TailMode, TeacherRows
from models.fusion.losses import fusion_loss, fusion_loss_from_logits, sparse_kl
from models.fusion.signals.record import PAD_LOGPROB

CLEAR_REFS = Path("/proc/self/clear_refs")


def make_teacher(rows: int, vocab: int, k: int, *, seed: int, padded: int = 0, dtype: torch.dtype = torch.float32) -> TeacherRows:
    generator = torch.Generator().manual_seed(seed)
    full = torch.log_softmax(3 * torch.randn(rows, vocab, generator=generator, dtype=torch.float64), dim=1)
    logprobs, ids = full.topk(k, dim=1)
    tail = torch.log1p(-logprobs.exp().sum(dim=1)).clamp(min=math.log(1e-8))
    if padded:
        ids[:, -padded:] = 0
        logprobs[:, -padded:] = PAD_LOGPROB
    has = torch.rand(rows, generator=generator) > 0.3
    return TeacherRows(ids, logprobs.to(dtype), tail.to(dtype), has)


def dense_kl(logits: Tensor, teacher: TeacherRows, temperature: float, tail: TailMode) -> Tensor:
    """KL of every row, from full probability vectors, token by token."""
    q = torch.softmax(logits, dim=1)
    values = []
    for row in range(len(q)):
        if not bool(teacher.has[row]):
            values.append(q[row, 0] * 0)
            continue
        real = teacher.logprobs[row] > PAD_LOGPROB + 1
        ids = teacher.ids[row][real]
        p = teacher.logprobs[row][real].double().exp()
        rest = teacher.tail[row].double().exp() if tail == "bucket" else torch.zeros((), dtype=torch.float64)
        p = torch.cat([p / p.sum() * (1 - rest), rest[None]])
        outside = torch.ones(q.shape[1], dtype=torch.bool)
        outside[ids] = False
        student = torch.cat([q[row, ids], q[row, outside].sum()[None]])
        p, student = (x ** (1 / temperature) / (x ** (1 / temperature)).sum() for x in (p, student))
        values.append(sum(a * (a.log() - b.log()) for a, b in zip(p, student, strict=True) if a > 0))
    return torch.stack(values)


def problem(
    rows: int = 23, vocab: int = 50, width: int = 8, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, width), (vocab, width), (vocab,))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return [*tensors, torch.randint(vocab, (rows,), generator=generator)]


def reference(tensors: list[Tensor], teacher: TeacherRows, beta: float, temperature: float, tail: TailMode) -> list[Tensor]:
    """Objective, SFT, KL, and gradients of hidden, weight, bias, in float64."""
    hidden, weight, bias = (t.detach().double().requires_grad_() for t in tensors[:3])
    logits = hidden @ weight.T + bias
    sft = F.cross_entropy(logits, tensors[3], reduction="none")
    kl = dense_kl(logits, teacher, temperature, tail)
    objective = sft.sum() + beta * kl.sum()
    objective.backward()
    return [objective.detach(), sft.detach(), kl.detach(), hidden.grad, weight.grad, bias.grad]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("padded", [0, 3])
def test_value_and_gradients_agree_with_dense_reference(dtype, tail, temperature, padded):
    tensors = problem(dtype=dtype)
    teacher = make_teacher(23, 50, 6, seed=1, padded=padded)
    expected = reference(tensors, teacher, 0.7, temperature, tail)
    inputs = [t.clone().requires_grad_() for t in tensors[:3]]
    loss = fusion_loss(*inputs, tensors[3], teacher, beta=0.7, temperature=temperature, tail=tail, chunk=7)
    (loss.objective * 0.25).backward()
    found = [loss.objective.detach(), loss.sft, loss.kl, *(4 * t.grad for t in inputs)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)
    assert expected[2].max() > 0.1
    assert loss.num_tokens == 23
    torch.testing.assert_close(loss.sft_sum + 0.7 * loss.kl_sum, loss.objective.detach())


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradcheck(tail, temperature):
    hidden, weight, bias, labels = problem(rows=5, vocab=9, width=3)
    teacher = make_teacher(5, 9, 4, seed=2, padded=1, dtype=torch.float64)
    inputs = tuple(t.requires_grad_() for t in (hidden, weight, bias))

    def objective(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return fusion_loss(h, w, b, labels, teacher, beta=0.4, temperature=temperature, tail=tail, chunk=2).objective

    assert torch.autograd.gradcheck(objective, inputs)


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_plain_path_equals_fused(tail, temperature):
    hidden, weight, bias, labels = problem()
    teacher = make_teacher(23, 50, 6, seed=3, padded=2, dtype=torch.float64)
    logits = (hidden @ weight.T + bias).requires_grad_()
    plain = fusion_loss_from_logits(logits, labels, teacher, beta=0.11, temperature=temperature, tail=tail)
    plain.objective.backward()
    eye = torch.eye(50, dtype=torch.float64)
    inputs = logits.detach().clone().requires_grad_()
    fused = fusion_loss(inputs, eye, None, labels, teacher, beta=0.11, temperature=temperature, tail=tail, chunk=5)
    fused.objective.backward()
    torch.testing.assert_close(fused.objective, plain.objective)
    torch.testing.assert_close(fused.kl, plain.kl)
    torch.testing.assert_close(inputs.grad, logits.grad)


def test_gradient_has_the_closed_form_of_the_docstring():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    p, p_tail = torch.tensor([0.5, 0.3], dtype=torch.float64), 0.2
    teacher = TeacherRows(torch.tensor([[3, 1]]), p.log()[None], torch.tensor([math.log(p_tail)]).double(), torch.tensor([True]))
    sparse_kl(logits, teacher).sum().backward()
    q = torch.softmax(logits.detach(), dim=1)[0]
    q_tail = float(q[0] + q[2])
    expected = q * (1 - p_tail / q_tail)
    expected[[3, 1]] = q[[3, 1]] - p
    torch.testing.assert_close(logits.grad[0], expected)


def test_rows_without_teacher_train_on_labels_only():
    tensors = problem()
    teacher = make_teacher(23, 50, 6, seed=4)
    nobody = TeacherRows(teacher.ids, teacher.logprobs, teacher.tail, torch.zeros(23, dtype=torch.bool))
    results = []
    for rows, beta in ((nobody, 0.5), (None, 0.5), (teacher, 0.0)):
        hidden = tensors[0].clone().requires_grad_()
        loss = fusion_loss(hidden, tensors[1], tensors[2], tensors[3], rows, beta=beta, chunk=6)
        loss.objective.backward()
        assert loss.kl.eq(0).all()
        results.append((loss.objective.detach(), hidden.grad))
    logits = tensors[0] @ tensors[1].T + tensors[2]
    torch.testing.assert_close(results[0][0], F.cross_entropy(logits, tensors[3], reduction="sum"))
    for value, grad in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(grad, results[0][1])


def test_unused_slots_do_not_count_even_where_their_id_is_used():
    """Padding carries id 0; id 0 may also be a real entry, before or after it, and temperature must not revive it."""
    logits = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids, logprobs = torch.tensor([[0, 4]]), torch.tensor([[0.6, 0.3]], dtype=torch.float64).log()
    tail, has = torch.tensor([0.1], dtype=torch.float64).log(), torch.tensor([True])
    pads, silent = torch.zeros(1, 2, dtype=torch.int64), torch.full((1, 2), PAD_LOGPROB, dtype=torch.float64)
    for temperature in (1.0, 50.0):
        short = sparse_kl(logits, TeacherRows(ids, logprobs, tail, has), temperature=temperature)
        for order in (lambda a, b: [a, b], lambda a, b: [b, a]):
            padded = TeacherRows(torch.cat(order(ids, pads), dim=1), torch.cat(order(logprobs, silent), dim=1), tail, has)
            torch.testing.assert_close(sparse_kl(logits, padded, temperature=temperature), short)
            leaf = logits.clone().requires_grad_()
            fusion_loss(
                leaf, torch.eye(6).double(), None, ids[0, :1], padded, beta=1, temperature=temperature
            ).objective.backward()
            plain = logits.clone().requires_grad_()
            short_rows = TeacherRows(ids, logprobs, tail, has)
            fusion_loss_from_logits(plain, ids[0, :1], short_rows, beta=1, temperature=temperature).objective.backward()
            torch.testing.assert_close(leaf.grad, plain.grad)


@pytest.mark.parametrize("gap", [20.0, 90.0, 300.0, 1e4])
def test_vanishing_student_tail_stays_exact(gap):
    """q_tail = 2·e^−gap underflows in float32; the divergence and its gradient must still follow the logarithm."""
    logits = torch.full((1, 6), -gap)
    logits[0, :2] = 0
    teacher = TeacherRows(
        torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]).log(), torch.tensor([math.log(1e-8)]), torch.tensor([True])
    )
    leaf = logits.clone().requires_grad_()
    loss = fusion_loss(leaf, torch.eye(6), None, torch.tensor([0]), teacher, beta=1.0)
    loss.objective.backward()
    log_q_tail = math.log(2) - gap - math.log1p(2 * math.exp(-gap))
    expected = (1 - 1e-8) * math.log(1 - 1e-8) + 1e-8 * (math.log(1e-8) - log_q_tail)
    assert float(loss.kl[0]) == pytest.approx(expected, abs=1e-6)
    assert torch.isfinite(leaf.grad).all()
    assert float(leaf.grad[0, 2:].sum()) == pytest.approx(2 * math.exp(log_q_tail) - 1e-8, rel=1e-4, abs=1e-12)
    assert float(sparse_kl(logits, teacher)[0]) == pytest.approx(expected, abs=1e-6)


def test_top_k_of_the_whole_vocabulary_has_no_tail():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    teacher = make_teacher(3, 4, 4, seed=5)
    teacher = TeacherRows(teacher.ids, teacher.logprobs, torch.full((3,), math.log(1e-8)), torch.ones(3, dtype=torch.bool))
    leaf = logits.clone().requires_grad_()
    loss = fusion_loss(leaf, torch.eye(4), None, torch.zeros(3, dtype=torch.int64), teacher, beta=1.0)
    loss.objective.backward()
    log_p = torch.full((3, 4), 0.0).scatter(1, teacher.ids, teacher.logprobs)
    expected = F.kl_div(torch.log_softmax(logits, 1), log_p, log_target=True, reduction="none").sum(1)
    torch.testing.assert_close(loss.kl, expected, rtol=1e-4, atol=1e-5)
    label = F.one_hot(torch.zeros(3, dtype=torch.int64), 4)
    torch.testing.assert_close(leaf.grad, 2 * torch.softmax(logits, 1) - label - log_p.exp(), rtol=1e-4, atol=1e-5)


def test_renormalise_counts_student_mass_outside():
    """The ancestors' form: teacher 1 over the top-k, student over everything."""
    logits = torch.log(torch.tensor([[0.4, 0.2, 0.4]], dtype=torch.float64))
    teacher = TeacherRows(
        torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.2]]).log(), torch.tensor([math.log(0.2)]), torch.tensor([True])
    )
    found = float(sparse_kl(logits, teacher, tail="renormalise")[0])
    assert found == pytest.approx(0.75 * math.log(0.75 / 0.4) + 0.25 * math.log(0.25 / 0.2), abs=1e-6)


def test_frozen_head_gets_no_gradient_and_hidden_does():
    hidden, weight, bias, labels = problem()
    hidden.requires_grad_()
    fusion_loss(hidden, weight, bias, labels, make_teacher(23, 50, 6, seed=6), beta=0.1).objective.backward()
    assert weight.grad is None
    assert bias.grad is None
    assert hidden.grad.abs().sum() > 0


def test_tied_embedding_sums_both_uses():
    _, weight, _, labels = problem(rows=4)
    tokens = torch.tensor([1, 7, 7, 3])
    teacher = make_teacher(4, 50, 6, seed=7, dtype=torch.float64)
    grads = []
    for fused in (True, False):
        tied = weight.clone().requires_grad_()
        hidden = F.embedding(tokens, tied)
        if fused:
            loss = fusion_loss(hidden, tied, None, labels, teacher, beta=0.3)
        else:
            loss = fusion_loss_from_logits(hidden @ tied.T, labels, teacher, beta=0.3)
        loss.objective.backward()
        grads.append(tied.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_backward_twice_adds_the_same_gradient():
    hidden, weight, bias, labels = problem()
    hidden.requires_grad_()
    loss = fusion_loss(hidden, weight, bias, labels, make_teacher(23, 50, 6, seed=8), beta=0.1)
    (loss.objective * 3).backward(retain_graph=True)
    first = hidden.grad.clone()
    (loss.objective * 3).backward()
    torch.testing.assert_close(hidden.grad, 2 * first)


def test_no_grad_gives_the_same_value():
    hidden, weight, bias, labels = problem()
    weight.requires_grad_()
    teacher = make_teacher(23, 50, 6, seed=9)
    with_grad = fusion_loss(hidden, weight, bias, labels, teacher, beta=0.1)
    with torch.no_grad():
        without = fusion_loss(hidden, weight, bias, labels, teacher, beta=0.1)
    assert not without.objective.requires_grad
    assert torch.equal(without.objective, with_grad.objective.detach())


def test_autocast_rounds_logits_but_not_sums():
    hidden, weight, bias, labels = problem(rows=300, vocab=200, width=16, dtype=torch.float32)
    hidden, weight = 0.3 * hidden, (0.3 * weight).requires_grad_()
    teacher = make_teacher(300, 200, 10, seed=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = fusion_loss(hidden, weight, bias, labels, teacher, beta=0.5, chunk=64)
    loss.objective.backward()
    rounded = F.linear(hidden.bfloat16(), weight.detach().bfloat16(), bias.bfloat16()).double()
    exact = F.cross_entropy(rounded, labels, reduction="none")
    assert loss.objective.dtype == loss.sft.dtype == torch.float32
    torch.testing.assert_close(loss.sft.double(), exact, rtol=1e-5, atol=1e-5)
    full = weight.detach().clone().requires_grad_()
    fusion_loss(hidden, full, bias, labels, teacher, beta=0.5).objective.backward()
    assert weight.grad.dtype == torch.float32
    assert float((weight.grad - full.grad).norm() / full.grad.norm()) < 0.01


def test_bfloat16_weights_keep_small_shares_of_many_chunks():
    hidden, weight, _, labels = problem(rows=512, vocab=40, width=8, dtype=torch.float32)
    weight = (0.1 * weight).bfloat16().requires_grad_()
    hidden = hidden.bfloat16()
    (fusion_loss(hidden, weight, None, labels, None, beta=0.0, chunk=1).objective / 3).backward()
    exact = weight.detach().double().requires_grad_()
    F.cross_entropy(hidden.double() @ exact.T, labels, reduction="sum").backward()
    assert weight.grad.dtype == torch.bfloat16
    expected = exact.grad / 3
    assert float((weight.grad.double() - expected).norm() / expected.norm()) < 0.01
    # 1/3 in bfloat16 is 0.2 % too large: the scale must not be rounded.
    assert abs(float((weight.grad.double() * expected).sum() / expected.square().sum()) - 1) < 5e-4


def test_no_rows_is_zero_with_zero_gradient():
    hidden, weight, bias, _ = problem()
    weight.requires_grad_()
    empty = torch.empty(0, dtype=torch.int64)
    loss = fusion_loss(hidden[:0], weight, bias, empty, None, beta=0.1)
    loss.objective.backward()
    assert loss.objective.item() == 0
    assert weight.grad.eq(0).all()


def test_nan_reaches_its_row_only():
    hidden, weight, bias, labels = problem()
    hidden[5] = torch.nan
    loss = fusion_loss(hidden, weight, bias, labels, make_teacher(23, 50, 6, seed=11), beta=0.1, chunk=4)
    assert torch.isnan(loss.objective)
    assert torch.isnan(loss.sft).nonzero().flatten().tolist() == [5]


def test_unequal_rows_are_refused():
    hidden, weight, bias, labels = problem()
    with pytest.raises(ValueError, match="'labels': 22"):
        fusion_loss(hidden, weight, bias, labels[:22], None, beta=0.1)
    with pytest.raises(ValueError, match="`chunk` must be at least 1, but is 0"):
        fusion_loss(hidden, weight, bias, labels, None, beta=0.1, chunk=0)


def test_a_teacher_that_would_be_broadcast_is_refused():
    """One column of log-probabilities would silently count for all ids of its row."""
    hidden, weight, bias, labels = problem()
    good = make_teacher(23, 50, 6, seed=4)
    bad = TeacherRows(good.ids, good.logprobs[:, :1], good.tail, good.has)
    with pytest.raises(ValueError, match=r"\[23, 6\] ids and \[23, 1\] log-probabilities"):
        fusion_loss(hidden, weight, bias, labels, bad, beta=0.1)


def test_logits_of_all_rows_never_exist(monkeypatch):
    """Every head product sees at most `chunk` rows, and nothing [N, V] is kept for the backward pass."""
    seen: list[int] = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *args: (seen.append(len(x)), linear(x, *args))[1])
    hidden, weight, bias, labels = problem(rows=100, vocab=64, width=4)
    hidden.requires_grad_()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        fusion_loss(hidden, weight.requires_grad_(), bias, labels, make_teacher(100, 64, 5, seed=12), beta=0.1, chunk=32)
    assert seen == [32] * 6 + [4] * 2  # logits, then gradient of the hidden states
    assert max(saved) < 100 * 64


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="needs Linux's /proc/self/clear_refs")
def test_peak_memory_stays_far_below_the_logits():
    """Forward and backward of 8,192 rows over 8,192 entries: their logits, of which the dense form holds several, are 268 MB."""
    rows, vocab = 8192, 8192
    hidden, weight, _, labels = problem(rows=rows, vocab=vocab, width=16, dtype=torch.float32)
    teacher = TeacherRows(
        torch.arange(4).expand(rows, 4), torch.full((rows, 4), math.log(0.2)), torch.full((rows,), math.log(0.2)), labels >= 0
    )

    def step(first: int) -> None:
        leaves = hidden[:first].clone().requires_grad_(), weight.clone().requires_grad_()
        fusion_loss(*leaves, None, labels[:first], teacher[:first], beta=0.1, chunk=256).objective.backward()

    step(256)  # what libraries set up once does not count
    CLEAR_REFS.write_text("5")
    before = resident("VmRSS")
    step(rows)
    assert resident("VmHWM") - before < 0.2 * rows * vocab * 4


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
