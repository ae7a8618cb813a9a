"""Reward model training on preference pairs by the Bradley-Terry loss −log σ(r(better) − r(worse)), and selection of pairs."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.corpus.examples import read_examples, read_json_lines
from models.lm.pico.training import MAX_GRAD_NORM, finite_loss, log_progress, make_optimiser
from models.lm.prompts import TextItem, pad_rows
from models.lm.reward_model import encode_conversations
from models.metrics_sink import MetricsSink
from models.params.sources import PicoTraining
from models.schema import Example, Message, Response
from models.training.learning_rate import cosine_schedule

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
class RewardTrainingSummary:
    """Steps of a training run and, over their last tenth, mean loss (nats per pair) and share of pairs ranked correctly."""

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
    """Tokenise pairs exactly as responses are scored later."""
    pairs = list(pairs)
    items = [TextItem(str(i), pair.messages, text) for i, pair in enumerate(pairs) for text in (pair.better, pair.worse)]
    rows = encode_conversations(tokenizer, items, template=template, context_length=context_length)
    return [PairRow(better, worse) for better, worse in zip(rows[::2], rows[1::2], strict=True)]


def train_reward_model(
    model: PreTrainedModel,
    rows: Sequence[PairRow],
    *,
    order: npt.NDArray[np.int64],
    training: PicoTraining,
    device: str,
    sink: MetricsSink,
) -> RewardTrainingSummary:
    """Train a sequence classifier with one output in place on `rows[order[s]]` at each step s.

    Args:
        model: The classifier; it stays on `device`, in evaluation mode.
        rows: Tokenised pairs.
        order: Pair indices, [steps, batch].
        training: Optimiser settings.
        device: torch device.
        sink: Receives `train/loss` (nats per pair) and the steps done.

    Raises:
        NumericsError: The loss is not finite.
    """
    torch.nn.Module.to(model, device).train()
    optimiser = make_optimiser(model, training)
    schedule = cosine_schedule(optimiser, num_steps=len(order), warmup=training.warmup_steps)
    losses: list[float] = []
    right: list[float] = []
    for step, batch in enumerate(order):
        margins, weights = pair_margins(model, [rows[i] for i in batch])
        loss = -(torch.nn.functional.logsigmoid(margins) * weights).sum(dim=1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(finite_loss(loss, step))
        right.append(float((margins.detach()[:, -1] > 0).float().mean()))
        log_progress(sink, losses, total=len(order))
    model.eval()
    last = slice(-max(1, len(losses) // 10), None)
    return RewardTrainingSummary(len(order), float(np.mean(losses[last])), float(np.mean(right[last])))


def pair_margins(model: PreTrainedModel, batch: Sequence[PairRow]) -> tuple[Tensor, Tensor]:
    """Score both responses of each pair at every token.

    The score of a row's last token is repeated to the end, so the last column is the margin by which responses are ranked.

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
    """Weight 1/2 spread evenly from the first difference to the end of the longer response, and 1/2 on the last column."""
    first = (better != worse).int().argmax(dim=1, keepdim=True)
    place = torch.arange(better.shape[1], device=better.device)[None]
    spread = ((place >= first) & (place <= ends)).float()
    weights = 0.5 * spread / spread.sum(dim=1, keepdim=True)
    weights[:, -1] += 0.5
    return weights


AnswerCheck = Callable[[Example, str], bool | None]
_MAX_PAIRS = 4  # per prompt, so that none outweighs the others


@dataclass(frozen=True, slots=True)
class PairGroup:
    """Pairs that are sampled as one group, with its weight."""

    pairs: tuple[Pair, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class PairSets:
    """Preference pairs of both origins.

    Attributes:
        rule_based: Generated by rules.
        sampled: From answers of sources.
        sampled_share: Share of sampled pairs in training; ignored if either origin has no pairs.
    """

    rule_based: Sequence[Pair]
    sampled: Sequence[Pair]
    sampled_share: float

    def groups(self) -> dict[str, PairGroup]:
        """Return the pairs by family and origin; families weigh the same within an origin."""
        found: dict[str, PairGroup] = {}
        for origin, pairs, weight in (
            ("rule_based", self.rule_based, 1 - self.sampled_share),
            ("sampled", self.sampled, self.sampled_share),
        ):
            families: dict[str, list[Pair]] = {}
            for pair in pairs:
                families.setdefault(pair.family, []).append(pair)
            share = weight if self.rule_based and self.sampled else 1.0
            for family, members in sorted(families.items()):
                if share > 0:
                    found[f"{origin}/{family}"] = PairGroup(tuple(members), share / len(families))
        return found


def answered_prompts(folder: Path, *, num_prompts: int, seed: int) -> list[Example]:
    """Sample pre-training rows that have a check, evenly over the families of `folder`, for the sources to answer."""
    files = sorted(folder.glob("*.jsonl"))
    chosen: list[Example] = []
    for place, file in enumerate(files):
        rows = [row for row in read_examples(file) if row.check != "none"]
        wanted = num_prompts // len(files) + (place < num_prompts % len(files))
        chosen += random.Random(f"preferences/{seed}/{file.stem}").sample(rows, min(wanted, len(rows)))
    return chosen


def answer_pairs(
    examples: Iterable[Example], answers: Mapping[str, Sequence[Response]], *, is_right: AnswerCheck
) -> Iterator[Pair]:
    """Yield pairs of a right and a wrong answer to the same prompt.

    Args:
        examples: Prompts with their reference answers.
        answers: Example id → answers of any sources; empty and truncated ones make no pair.
        is_right: The check.

    Yields:
        At most four pairs per prompt.
    """
    for example in examples:
        finished = dict.fromkeys(a.text for a in answers.get(example.id, ()) if a.finish == "eos" and a.text.strip())
        judged = [(text, is_right(example, text)) for text in finished]
        right = [text for text, verdict in judged if verdict is True]
        wrong = [text for text, verdict in judged if verdict is False]
        for better, worse in islice(_crossed(right, wrong), _MAX_PAIRS):
            yield Pair(example.family, example.messages, better, worse)


def _crossed(right: Sequence[str], wrong: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield all combinations, beginning with those that pair each answer with a different partner."""
    pairs = list(product(range(len(right)), range(len(wrong))))
    pairs.sort(key=lambda pair: abs(pair[0] - pair[1]))
    return ((right[i], wrong[j]) for i, j in pairs)
