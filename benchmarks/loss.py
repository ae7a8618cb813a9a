"""The fused, chunked top-k loss against the ancestors' way: scatter a dense [N, V] target, then soft-label cross-entropy."""

import torch
import torch.nn.functional as F

from benchmarks.timing import paired
from models.fusion.losses import TeacherRows, fusion_loss
from models.reporting.results import ResultRow

N, V, D, K, BETA = 2048, 32000, 256, 10, 0.11


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden, weight = torch.randn(N, D), torch.randn(V, D) * 0.05
    labels = torch.randint(V, (N,))
    ids = torch.stack([torch.randperm(V)[:K] for _ in range(N)])
    logprobs = torch.log_softmax(torch.randn(N, K + 1), -1)
    teacher = TeacherRows(ids, logprobs[:, :K].contiguous(), logprobs[:, K].contiguous(), torch.ones(N, dtype=torch.bool))

    def ours() -> float:
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = fusion_loss(h, w, None, labels, teacher, beta=BETA, tail="renormalise", chunk=256).objective / N
        loss.backward()
        return float(loss)

    def dense() -> float:
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        logits = h @ w.T
        p = torch.softmax(logprobs[:, :K], -1)
        target = torch.zeros(N, V).scatter_(1, ids, p)
        entropy = -(p * p.log()).sum() / N
        loss = F.cross_entropy(logits, labels) + BETA * (F.cross_entropy(logits, target) - entropy)
        loss.backward()
        return float(loss)

    if abs(ours() - dense()) > 1e-3:
        raise SystemExit(f"the two losses differ: {ours()} and {dense()}")
    fast, slow, ratio = paired(ours, dense)
    return [
        ResultRow(f"loss, N={N}, V={V}: ours / dense target", ratio, "ratio", more={"ours_s": fast, "peer_s": slow}),
    ]
