"""A plain training loop for small causal language models on rows of (prompt, response).

For the embedded sources, whose steps take milliseconds: the Hugging Face Trainer's bookkeeping would dominate. Rows are padded
on the right, so that causal attention needs no mask, and grouped by length inside a window of steps.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.errors import NumericsError
from models.metrics_sink import MetricsSink
from models.params.sources import PicoTraining
from models.training.learning_rate import cosine_schedule

# Weight of a prompt token's loss against a response token's 1: reading prompts helps a little at this size.
PROMPT_WEIGHT = 0.1
# Steps whose rows are sorted by length together.
_WINDOW = 8
MAX_GRAD_NORM = 1.0
_LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row in tokens: prompt, response and end token, `ids[:prompt_length]` being the prompt."""

    ids: npt.NDArray[np.int32]
    prompt_length: int


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """Steps of a training run, tokens seen (without padding) and mean loss of the last tenth, nats per token."""

    num_steps: int
    num_tokens: int
    final_loss: float


def train_causal_lm(
    model: PreTrainedModel,
    rows: Sequence[TrainingRow],
    *,
    order: npt.NDArray[np.int64],
    training: PicoTraining,
    device: str,
    sink: MetricsSink,
) -> TrainingSummary:
    """Train `model` in place on `rows[order[s]]` at each step s.

    Args:
        model: A causal language model; it stays on `device`, in evaluation mode.
        rows: Tokenised rows.
        order: Row indices, [steps, batch].
        training: Optimiser settings.
        device: torch device.
        sink: Receives `train/loss` (nats per response token) and the steps done.

    Raises:
        NumericsError: The loss is not finite.
    """
    torch.nn.Module.to(model, device).train()
    optimiser = make_optimiser(model, training)
    schedule = cosine_schedule(optimiser, num_steps=len(order), warmup=training.warmup_steps)
    losses: list[float] = []
    num_tokens = 0
    for step, batch in enumerate(_grouped_by_length(order, rows)):
        loss = _batch_loss(model, [rows[i] for i in batch], device=device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(finite_loss(loss, step))
        num_tokens += sum(len(rows[i].ids) for i in batch)
        log_progress(sink, losses, total=len(order))
    model.eval()
    return TrainingSummary(len(order), num_tokens, float(np.mean(losses[-max(1, len(losses) // 10) :])))


def make_optimiser(model: PreTrainedModel, training: PicoTraining) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices only (no norms, no biases)."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.lr, betas=(0.9, 0.98), fused=True)


def finite_loss(loss: Tensor, step: int) -> float:
    """Return the loss as a number. Raises NumericsError if it is not finite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NumericsError(f"The loss of step {step} must be finite, but is {value}. Lower `sources.pico_training.lr`.")
    return value


def log_progress(sink: MetricsSink, losses: Sequence[float], *, total: int) -> None:
    """Log the mean loss since the last report, every few steps and at the end, with the progress."""
    step = len(losses)
    if step % _LOG_EVERY == 0 or step == total:
        since = step % _LOG_EVERY or _LOG_EVERY
        sink.log({"train/loss": float(np.mean(losses[-since:]))}, step=step)
        sink.progress(step, total, unit="steps")


def _grouped_by_length(order: npt.NDArray[np.int64], rows: Sequence[TrainingRow]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the batches of `order`; inside a window of steps, rows of similar length share a batch (saves padding)."""
    lengths = np.array([len(row.ids) for row in rows])
    for start in range(0, len(order), _WINDOW):
        window = order[start : start + _WINDOW]
        flat = window.reshape(-1)
        batches = flat[np.argsort(lengths[flat], kind="stable")].reshape(window.shape)
        # Short and long batches take turns in an order that depends on the data only.
        yield from batches[np.argsort(window[:, 0], kind="stable")]


def _batch_loss(model: PreTrainedModel, batch: Sequence[TrainingRow], *, device: str) -> Tensor:
    width = max(len(row.ids) for row in batch)
    ids = np.zeros((len(batch), width), dtype=np.int64)
    weights = np.zeros((len(batch), width), dtype=np.float32)
    for i, row in enumerate(batch):
        ids[i, : len(row.ids)] = row.ids
        weights[i, : len(row.ids)] = 1.0
        weights[i, : row.prompt_length] = PROMPT_WEIGHT
    inputs = torch.from_numpy(ids).to(device)
    logits = model(input_ids=inputs[:, :-1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), inputs[:, 1:].flatten(), reduction="none")
    scale = torch.from_numpy(weights[:, 1:]).to(device).flatten()
    return (losses * scale).sum() / scale.sum()
