"""Training of a small reward model on preference pairs: −log σ(r(better) − r(worse)) (Bradley-Terry).

A response is judged at its last token, and there lies half of the loss. The other half is spread over all tokens from the
first one in which the two responses differ (as DeepSpeed-Chat does): the score learns what is wrong where it is wrong. At this
size that makes the difference between ranking wrong facts by chance and knowing most of them.
"""

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
        margins, weights = pair_margins(model, [rows[i] for i in batch])
        loss = -(torch.nn.functional.logsigmoid(margins) * weights).sum(dim=1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(checked(loss, step))
        right.append(float((margins.detach()[:, -1] > 0).float().mean()))
        report(sink, losses, total=len(order))
    model.eval()
    last = slice(-max(1, len(losses) // 10), None)
    return RewardSummary(len(order), float(np.mean(losses[last])), float(np.mean(right[last])))


def pair_margins(model: PreTrainedModel, batch: Sequence[PairRow]) -> tuple[Tensor, Tensor]:
    """Score both responses of each pair at every token.

    A row that has ended keeps the score of its last token, so the last column is the margin by which responses are ranked.

    Returns:
        r(better) − r(worse), [B, T], and the weight of each of them in the loss, [B, T], rows summing to 1.
    """
    texts = [*(row.better for row in batch), *(row.worse for row in batch)]
    # Padding on the right of a causal model needs no mask.
    ids, mask = pad_rows(texts, pad_id=model.config.pad_token_id, side="right", device=model.device)
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    last = mask.sum(dim=1, keepdim=True) - 1
    place = torch.arange(ids.shape[1], device=ids.device)[None]
    scores = model.get_submodule("score")(hidden).float().squeeze(-1).gather(1, torch.minimum(place, last))
    better, worse = scores.chunk(2)
    return better - worse, _loss_weights(*ids.chunk(2), ends=torch.maximum(*last.chunk(2)))


def _loss_weights(better: Tensor, worse: Tensor, *, ends: Tensor) -> Tensor:
    """Half evenly from the first difference to the end of the longer response, half on the last column."""
    first = (better != worse).int().argmax(dim=1, keepdim=True)
    place = torch.arange(better.shape[1], device=better.device)[None]
    spread = ((place >= first) & (place <= ends)).float()
    weights = 0.5 * spread / spread.sum(dim=1, keepdim=True)
    weights[:, -1] += 0.5
    return weights
