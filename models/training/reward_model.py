"""Training of a small reward model on preference pairs: −log σ(r(better) − r(worse)) (Bradley-Terry)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.data.corpus import read_json_lines
from models.fusion.rewards import encode_judged
from models.generation.batching import pad_rows
from models.generation.prompts import TextItem
from models.metrics_sink import MetricsSink
from models.params.sources import PicoTraining
from models.schema import Message
from models.training.causal_lm import MAX_GRAD_NORM, checked, lr_factor, make_optimiser, report, set_lr

import os
LMW = float(os.environ.get("LMW", "0"))
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt of a family with a better and a worse response."""

    family: str
    messages: tuple[Message, ...]
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class PairRow:
    """The two conversations of a pair in tokens."""

    better: Ids
    worse: Ids


@dataclass(frozen=True, slots=True)
class RewardSummary:
    """What a training came to: steps, and over the last tenth of them mean loss (nats a pair) and share of pairs ranked right."""

    num_steps: int
    final_loss: float
    final_accuracy: float


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a preferences file."""
    for row in read_json_lines(path):
        yield Pair(row["family"], tuple(Message(m["role"], m["content"]) for m in row["messages"]), row["better"], row["worse"])


def encode_pairs(
    pairs: Iterator[Pair] | Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, template: str, context_length: int
) -> list[PairRow]:
    """Tokenise pairs exactly as responses are judged later."""
    pairs = list(pairs)
    items = [TextItem(str(i), pair.messages, text) for i, pair in enumerate(pairs) for text in (pair.better, pair.worse)]
    rows = encode_judged(tokenizer, items, template=template, context_length=context_length)
    return [PairRow(better, worse) for better, worse in zip(rows[::2], rows[1::2], strict=True)]


def train_reward_model(
    model: PreTrainedModel,
    rows: Sequence[PairRow],
    *,
    order: npt.NDArray[np.int64],
    training: PicoTraining,
    device: str,
    sink: MetricsSink,
) -> RewardSummary:
    """Train a sequence classifier with one output in place on `rows[order[s]]` at each step s.

    Args:
        model: The classifier; it stays on `device`, in evaluation mode.
        rows: Tokenised pairs.
        order: Pair indices, [steps, batch].
        training: Optimiser settings.
        device: torch device.
        sink: Receives `train/loss` (nats a pair) and the steps done.

    Raises:
        NumericsError: The loss is not finite.
    """
    torch.nn.Module.to(model, device).train()
    optimiser = make_optimiser(model, training)
    losses: list[float] = []
    right: list[float] = []
    for step, batch in enumerate(order):
        set_lr(optimiser, training.lr * lr_factor(step, total=len(order), warmup=training.warmup_steps))
        margins, lm = _margins(model, [rows[i] for i in batch])
        loss = lm
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(checked(loss, step))
        right.append(float((margins.detach() > 0).float().mean()))
        report(sink, losses, total=len(order))
    model.eval()
    last = slice(-max(1, len(losses) // 10), None)
    return RewardSummary(len(order), float(np.mean(losses[last])), float(np.mean(right[last])))


def _margins(model: PreTrainedModel, batch: Sequence[PairRow]) -> Tensor:
    """Return r(better) − r(worse), [B]."""
    texts = [*(row.better for row in batch), *(row.worse for row in batch)]
    # Padding on the right of a causal model needs no mask; the score is read at the last token that is none.
    ids, _ = pad_rows(texts, pad_id=model.config.pad_token_id, side="right", device=model.device)
    hidden = model.model(input_ids=ids).last_hidden_state
    pad = model.config.pad_token_id
    n = len(batch)
    scores = model.score(hidden).float().squeeze(-1)
    T = ids.shape[1]
    t = torch.arange(T)
    lens = torch.tensor([len(x) - 1 for x in texts])
    idx = torch.minimum(t[None], lens[:, None])
    scores = scores.gather(1, idx)
    b, w = scores.chunk(2)
    ib, iw = ids.gather(1, idx).chunk(2)
    diff = (ids[:n] != ids[n:]).int().argmax(1)
    end = torch.maximum(lens[:n], lens[n:])
    m = ((t[None] >= diff[:, None]) & (t[None] <= end[:, None])).float()
    if os.environ.get("LASTW"):
        m = m + (t[None] == end[:, None]).float() * m.sum(1, keepdim=True)
    pl = (-torch.nn.functional.logsigmoid(b - w) * m).sum(1) / m.sum(1)
    margin = (b - w)[torch.arange(n), end]
    return margin, pl.mean()
    logits = torch.nn.functional.linear(hidden[:n, :-1], model.model.embed_tokens.weight)
    lm = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:n, 1:].flatten(), ignore_index=pad)
    return better - worse, lm
