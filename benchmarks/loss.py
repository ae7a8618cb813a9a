"""The fused, chunked top-k loss with its head, forward and backward, against the ancestors' dense way and against its own limit.

All sides go from hidden states to gradients of hidden states and head. `FuseLLM` is its trainer's own `compute_loss`, as its
recipe runs it: three dense distributions (scattered here in one call each, not by its collator's loop over tokens), the best by
reward, soft-label cross-entropy on full logits. `dense` is the leanest form of the same loss: one dense target. The head's three
matrix products alone are what no way of computing it can save.
"""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.memory import peak_megabytes
from benchmarks.peer import peer_module
from benchmarks.timing import paired
from models.fusion.buckets import TeacherRows
from models.fusion.losses import fusion_loss
from models.lm.head import head_product
from models.reporting.results import ResultRow

N, V, D, K = 2048, 32000, 256, 10
LM_WEIGHT = 0.9  # of the ancestors' recipes
BETA = (1 - LM_WEIGHT) / LM_WEIGHT
SIZE = f"T={N}, V={V}, D={D}"
_Step = Callable[[], tuple[Tensor, Tensor]]


class Problem:
    """Hidden states [N, D], a head [V, D], labels, and three sources' top-k; the first source is the best."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.hidden = torch.randn(N, D, generator=random)
        self.weight = torch.randn(V, D, generator=random) * 0.05
        self.labels = torch.randint(V, (N,), generator=random)
        self.ids = torch.rand(3, N, 4 * K, generator=random).argsort(2)[:, :, :K] * (V // (4 * K))
        # Multiples of 1/256 that sum to 1: exact in bfloat16, in which the ancestors keep their distributions.
        cuts = torch.rand(3, N, 255, generator=random).argsort(2)[:, :, : K - 1].sort(2).values + 1
        ends = torch.cat([torch.zeros_like(cuts[:, :, :1]), cuts, torch.full_like(cuts[:, :, :1], 256)], 2)
        self.probs = ends.diff(dim=2) / 256
        self.entropy = -(self.probs[0] * self.probs[0].log()).sum(1).mean()

    def leaves(self) -> tuple[Tensor, Tensor]:
        """Fresh leaves that share the values."""
        return self.hidden.detach().requires_grad_(), self.weight.detach().requires_grad_()

    def ours(self) -> tuple[Tensor, Tensor]:
        """The product's loss."""
        h, w = self.leaves()
        teacher = TeacherRows(self.ids[0], self.probs[0].log(), torch.full((N,), -9.0), torch.ones(N, dtype=torch.bool))
        loss = fusion_loss(h, w, None, self.labels, teacher, beta=BETA, tail="renormalise").objective * (LM_WEIGHT / N)
        loss.backward()
        return _gradients(h, w)

    def dense(self) -> tuple[Tensor, Tensor]:
        """One dense target."""
        h, w = self.leaves()
        logits = h @ w.T
        target = torch.zeros(N, V).scatter_(1, self.ids[0], self.probs[0])
        soft = F.cross_entropy(logits, target) - self.entropy
        (LM_WEIGHT * F.cross_entropy(logits, self.labels) + (1 - LM_WEIGHT) * soft).backward()
        return _gradients(h, w)

    def fusellm(self, trainer: ModuleType) -> tuple[Tensor, Tensor]:
        """The ancestors' own code."""
        h, w = self.leaves()

        def model(**_: Tensor) -> dict[str, Tensor]:
            logits = (h @ w.T)[None]
            return {"loss": F.cross_entropy(logits[0], self.labels), "logits": logits}

        names = (
            ("base_target_dist", "metric_ce", 2.0),
            *((f"aligned_target_dist_{i}", f"metric_ce_aligned_{i}", i) for i in (0, 1)),
        )
        inputs: dict[str, Any] = {"attention_mask": torch.ones(1, N)}
        for source, (name, metric, ce) in zip((1, 0, 2), names, strict=True):
            empty = torch.zeros(1, N, V, dtype=torch.bfloat16)
            inputs[name] = empty.scatter_(2, self.ids[source][None], self.probs[source][None].bfloat16())
            inputs[metric] = [float(ce)]
        settings = {"past_index": -1, "do_distill": True, "distill_loss_type": "ce", "lm_loss_weight": LM_WEIGHT}
        args = SimpleNamespace(**settings, distill_greater_as_gt=True, distill_greater_as_gt_type="hard")
        trainer.DistillTrainer.compute_loss(SimpleNamespace(label_smoother=None, args=args), model, inputs).backward()
        return _gradients(h, w)

    @torch.no_grad()
    def head(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        """The head's matrix products: logits, and the gradients of hidden states and weight from the logits' gradients."""
        for rows in self.hidden.split(256):
            logits = product(rows, self.weight)
            product(logits, self.weight.T)
            product(rows.T, logits.T)


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    problem = Problem()
    rows = [*_beside("dense form", problem, problem.dense, targets={})]
    trainer = _fusellm_trainer()
    if trainer is not None:
        rows += _beside("FuseLLM", problem, partial(problem.fusellm, trainer), targets={"time": "<= 0.25", "memory": "<= 0.3"})
    for library, product in (("torch's default", F.linear), ("the one of ours", head_product)):
        head, ours, ratio = paired(partial(problem.head, product), problem.ours, rounds=3)
        name = f"fusion loss, {SIZE}: the head's three products alone, by {library} / ours"
        more = {"head_s": head, "ours_s": ours, "limit": "no exact loss takes less than its head's products"}
        rows.append(ResultRow(name, ratio, "ratio", more=more))
    return rows


def _beside(name: str, problem: Problem, peer: _Step, *, targets: dict[str, str]) -> Iterator[ResultRow]:
    _refuse_different(problem.ours(), peer(), name)
    peak, peer_peak = peak_megabytes(problem.ours), peak_megabytes(peer)
    fast, slow, ratio = paired(problem.ours, peer, rounds=3)
    both = {"ours_s": fast, "peer_s": slow, "peak_mb": peak, "peer_peak_mb": peer_peak}
    title = f"fusion loss, {SIZE}: ours / {name}"
    yield ResultRow(f"{title}, time", ratio, "ratio", more={**both, "target": targets.get("time")})
    if peak is not None and peer_peak:
        yield ResultRow(f"{title}, peak memory", peak / peer_peak, "ratio", more={**both, "target": targets.get("memory")})


def _gradients(h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    assert h.grad is not None
    assert w.grad is not None
    return h.grad, w.grad


def _refuse_different(ours: tuple[Tensor, Tensor], peer: tuple[Tensor, Tensor], name: str) -> None:
    for what, a, b in zip(("hidden states", "head"), ours, peer, strict=True):
        error = float((a - b).norm() / b.norm())
        if not error < 1e-4:
            raise SystemExit(f"the gradients of the {what} of ours and of {name} differ: {error:.2g} of the norm")


def _fusellm_trainer() -> ModuleType | None:
    """Import the ancestors' trainer; it takes a name of transformers that is gone (and that only label smoothing needs)."""
    modeling = importlib.import_module("transformers.modeling_utils")
    modeling.__dict__.setdefault("unwrap_model", None)
    return peer_module("FuseLLM/src/utils", "trainer")
