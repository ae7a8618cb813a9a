"""The fusion loss, L_SFT + β · KL(P_source ‖ P_target) (eq. 3 of ProFuser), without a [N, V] tensor.

`fusion_loss` is fused with the output head: the forward pass goes over the rows in chunks, makes the logits of one chunk, turns
them in place into their gradient (in closed form), and keeps only gradients of the size of the inputs. With
q = softmax(z), y the label, S the teacher's top-k, t and r the tempered bucket probabilities of teacher and student:

    ∂/∂z_j = q_j − [j = y] + β/T · (r_j − t_j)                       j ∈ S
    ∂/∂z_j = q_j − [j = y] + β/T · (r_tail − t_tail) · q_j / q_tail  j ∉ S

Shapes: N rows (response tokens), n rows of a chunk, D width, V vocabulary, K top-k of the teacher.

At T = 1, r = q, so that the second line's divergence is β · q_j · (1 − t_tail / q_tail). q_j / q_tail is a softmax over the
tokens outside S, computed from their own maximum: it stays exact when q_tail underflows.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.fusion.buckets import Buckets, TailMode, TeacherRows, apply_temperature, bucket_kl, negligible_logit, teacher_buckets
from models.lm.head import add_product, head_product, zeros_for_sum

_CPU_LOGITS = 2**23  # 32 MiB, which the allocator reuses: larger blocks come fresh from the kernel, page by page, at every chunk
_CPU_ROWS = 64  # fewer would spend more on adding up the head's gradient than on making it


@dataclass(frozen=True, slots=True, eq=False)
class FusionLoss:
    """Sums over N rows, nats. Only `objective` carries a gradient.

    Attributes:
        objective: Scalar, sft_sum + β · kl_sum; multiply by a scale and call `backward`.
        sft: float[N], −log q(label) of each row, to name the sample of a non-finite loss.
        kl: float[N], divergence of each row, 0 without a teacher.
        num_tokens: N, the common denominator of both sums.
    """

    objective: Tensor
    sft: Tensor
    kl: Tensor
    num_tokens: int

    @property
    def sft_sum(self) -> Tensor:
        """Σ of `sft`, scalar."""
        return self.sft.sum()

    @property
    def kl_sum(self) -> Tensor:
        """Σ of `kl`, scalar, without β."""
        return self.kl.sum()


def sparse_kl(logits: Tensor, teacher: TeacherRows, *, temperature: float = 1.0, tail: TailMode = "bucket") -> Tensor:
    """Return KL(P_source ‖ P_target) of each row over the K + 1 buckets, by ordinary autograd.

    Args:
        logits: [N, V]; half precision is reduced in float32.
        teacher: N rows.
        temperature: T of both sides, see `models.fusion.buckets`.
        tail: How the probability outside the top-k is treated.

    Returns:
        float[N], nats; 0 where `teacher.has` is False.
    """
    logits = logits.to(_reduce_dtype(logits.dtype))
    buckets = teacher_buckets(
        teacher,
        torch.zeros_like(teacher.ids[:, 0]),
        vocab_size=logits.shape[1],
        temperature=temperature,
        tail=tail,
        dtype=logits.dtype,
    )
    below = negligible_logit(logits.dtype)
    inside = logits.gather(1, buckets.ids).masked_fill(~buckets.used, below)
    outside = logits.scatter(1, buckets.ids, below).logsumexp(dim=1, keepdim=True)
    log_q = apply_temperature(torch.log_softmax(torch.cat([inside, outside], dim=1), dim=1), temperature)
    return bucket_kl(buckets.log_p, log_q, buckets.active)


def fusion_loss_from_logits(
    logits: Tensor,
    labels: Tensor,
    teacher: TeacherRows | None,
    *,
    beta: float,
    temperature: float = 1.0,
    tail: TailMode = "bucket",
) -> FusionLoss:
    """Compute the loss from logits: for heads that do more than a matrix product (soft-capping, scaling).

    Args and result as in `fusion_loss`, with logits [N, V]. This one does hold [N, V].
    """
    _check_rows(labels, teacher, rows=logits.shape[0])
    sft = F.cross_entropy(logits.to(_reduce_dtype(logits.dtype)), labels, reduction="none")
    kl = torch.zeros_like(sft)
    if teacher is not None and beta > 0:
        kl = sparse_kl(logits, teacher, temperature=temperature, tail=tail)
    return FusionLoss(sft.sum() + beta * kl.sum(), sft.detach(), kl.detach(), len(labels))


def fusion_loss(
    hidden: Tensor,
    head_weight: Tensor,
    head_bias: Tensor | None,
    labels: Tensor,
    teacher: TeacherRows | None,
    *,
    beta: float,
    temperature: float = 1.0,
    tail: TailMode = "bucket",
    chunk: int = 1024,
) -> FusionLoss:
    """Compute eq. 3 on N response rows, fused with the head; memory grows with chunk · V, not with N · V.

    Args:
        hidden: [N, D], last hidden states at the rows that predict response tokens.
        head_weight: [V, D], possibly tied or frozen.
        head_bias: [V] or None.
        labels: int64[N], the hard label of each row.
        teacher: N rows, or None (then, and for β = 0, no divergence is computed).
        beta: β of eq. 3.
        temperature: T on both distributions of the divergence; the hard-label term is always at T = 1.
        tail: How the probability outside the top-k is treated.
        chunk: Maximum rows whose logits exist at a time; fewer on a CPU, limited to 32 MiB of logits.

    Returns:
        Sums in float32 (float64 for float64 inputs). Under autocast the matrix products run in its dtype.

    Raises:
        ValueError: Rows of the inputs differ in number, the teacher's ids and log-probabilities in shape, or `chunk` is below 1.
    """
    _check_rows(labels, teacher, rows=hidden.shape[0])
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1, but is {chunk}")
    device = hidden.device.type
    compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    job = _Job(
        labels=labels,
        teacher=teacher if beta > 0 else None,
        beta=beta,
        temperature=temperature,
        tail=tail,
        chunk=chunk,
        dtype=compute,
        grad=torch.is_grad_enabled(),
    )
    objective, sft, kl = _FusedLoss.apply(hidden, head_weight, head_bias, job)
    return FusionLoss(objective, sft, kl, len(labels))


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """The arguments of the fused loss that are not differentiated; `dtype` of the matrix products."""

    labels: Tensor
    teacher: TeacherRows | None
    beta: float
    temperature: float
    tail: TailMode
    chunk: int
    dtype: torch.dtype
    grad: bool


class _FusedLoss(torch.autograd.Function):
    """Linear head, cross-entropy and divergence in one; gradients are made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> tuple[Tensor, Tensor, Tensor]:
        """Return objective, sft[N], kl[N]; keep the gradients of the objective."""
        inputs = (hidden, weight, bias)
        wanted = [job.grad and needed for needed in ctx.needs_input_grad[:3]]
        acc = _reduce_dtype(job.dtype)
        # Sums over chunks are kept wider than bfloat16, whose 8 bits lose small terms.
        grads = [
            torch.zeros_like(x, dtype=acc) if x is not None and want else None for x, want in zip(inputs, wanted, strict=True)
        ]
        if grads[1] is not None:
            grads[1] = zeros_for_sum(weight, dtype=acc)
        sft, kl = (torch.zeros(len(job.labels), dtype=acc, device=hidden.device) for _ in range(2))
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(job.dtype), None if bias is None else bias.to(job.dtype)
            step = _rows_at_a_time(job.chunk, vocab_size=weight.shape[0], device=hidden.device)
            for start in range(0, len(job.labels), step):
                rows = slice(start, start + step)
                part = hidden[rows].to(job.dtype)  # [n, D]
                logits = head_product(part, *head).to(acc)  # [n, V]
                teacher = None if job.teacher is None else job.teacher[rows]
                sft[rows], kl[rows] = _loss_and_gradient(logits, job.labels[rows], teacher, job, gradient=any(wanted))
                if any(wanted):
                    _accumulate(grads, logits.to(job.dtype), part, head[0], rows)
                del logits  # else two chunks' logits would exist at once
        present = ((g, x) for g, x in zip(grads, inputs, strict=True) if x is not None)
        ctx.save_for_backward(*(g if g is None else g.to(x.dtype).contiguous() for g, x in present))
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(sft, kl)
        return sft.sum() + job.beta * kl.sum(), sft, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Scale the kept gradients (a second backward through the same graph finds them unchanged)."""
        # The scale keeps its width: rounded to bfloat16 it would shift all gradients by up to 0.4 %.
        scaled = [g if g is None else (g.to(grad.dtype) * grad).to(g.dtype) for g in ctx.saved_tensors]
        return scaled[0], scaled[1], scaled[2] if ctx.has_bias else None, None


def _loss_and_gradient(
    logits: Tensor, labels: Tensor, teacher: TeacherRows | None, job: _Job, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return sft[n] and kl[n] of a chunk; `logits` then hold the gradient of sft + β · kl (or nothing of use)."""
    buckets = _buckets_of(labels, teacher, job, vocab_size=logits.shape[1], dtype=logits.dtype)
    below = negligible_logit(logits.dtype)
    label_logit = logits.gather(1, labels[:, None])  # [n, 1]
    inside = logits.gather(1, buckets.ids).masked_fill(~buckets.used, below)  # [n, K]
    logits.scatter_(1, buckets.ids, below)  # the tail alone is left
    peak = logits.amax(dim=1, keepdim=True)
    tail = logits.sub_(peak).exp_()  # [n, V], in place: 0 at the top-k
    mass = tail.sum(dim=1, keepdim=True)
    joined = torch.cat([inside, peak + mass.log()], dim=1)  # [n, K + 1]
    normaliser = joined.logsumexp(dim=1, keepdim=True)  # [n, 1], that of the whole vocabulary
    sft = (normaliser - label_logit)[:, 0]
    log_q = joined - normaliser
    log_r = apply_temperature(log_q, job.temperature)
    kl = bucket_kl(buckets.log_p, log_r, buckets.active)
    if not gradient:
        return sft, kl
    strength = (job.beta / job.temperature) * buckets.active[:, None].to(logits.dtype)  # bool times float would be float32
    slope = log_q.exp() + strength * (log_r.exp() - buckets.log_p.exp())  # [n, K + 1], of the bucket's logit
    tail.mul_(slope[:, -1:] / mass)
    top = slope[:, :-1]
    # Unused slots point at the first used one: write its value there again.
    logits.scatter_(1, buckets.ids, torch.where(buckets.used, top, top.gather(1, buckets.first)))
    logits[torch.arange(len(labels), device=logits.device), labels] -= 1
    return sft, kl


def _buckets_of(labels: Tensor, teacher: TeacherRows | None, job: _Job, *, vocab_size: int, dtype: torch.dtype) -> Buckets:
    """Return the buckets of a chunk; without a teacher the label alone is set apart."""
    if teacher is not None:
        return teacher_buckets(teacher, labels, vocab_size=vocab_size, temperature=job.temperature, tail=job.tail, dtype=dtype)
    ids = labels[:, None]
    log_p = torch.full((len(labels), 2), -torch.inf, dtype=dtype, device=labels.device)
    inactive = torch.zeros_like(labels, dtype=torch.bool)
    return Buckets(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids), log_p, inactive)


def _accumulate(grads: list[Tensor | None], slope: Tensor, hidden: Tensor, weight: Tensor, rows: slice) -> None:
    """Add a chunk's share to the gradients of hidden states, weight and bias."""
    grad_hidden, grad_weight, grad_bias = grads
    if grad_hidden is not None:
        grad_hidden[rows] = head_product(slope, weight.T)
    if grad_weight is not None:
        add_product(grad_weight, slope, hidden)
    if grad_bias is not None:
        grad_bias += slope.sum(dim=0, dtype=grad_bias.dtype)


def _rows_at_a_time(chunk: int, *, vocab_size: int, device: torch.device) -> int:
    """Return the rows of a chunk: on a CPU fewer than allowed, if their logits then stay near its caches."""
    return min(chunk, max(_CPU_ROWS, _CPU_LOGITS // vocab_size)) if device.type == "cpu" else chunk


def _reduce_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check_rows(labels: Tensor, teacher: TeacherRows | None, *, rows: int) -> None:
    counts = {"hidden": rows, "labels": len(labels)} | ({} if teacher is None else {"teacher": len(teacher.has)})
    if len(set(counts.values())) > 1:
        raise ValueError(f"the rows of the loss must be equally many, but are {counts}")
    if teacher is not None and teacher.ids.shape != teacher.logprobs.shape:
        shapes = f"{[*teacher.ids.shape]} ids and {[*teacher.logprobs.shape]} log-probabilities"
        raise ValueError(f"the teacher must have a log-probability for every id, but has {shapes}")
