"""Scoring of responses by reward models, the voters of RM_Vote (eq. 2 of ProFuser)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.errors import NumericsError
from models.lm.loading import load_reward_classifier
from models.lm.prompts import TextItem, cut_left, pad_rows, plan_batches
from models.params.sources import DEFAULT_DATE
from models.schema import Message, ResolvedSource
from models.tokenization.chat import render_conversation
from models.tokenization.loading import load_tokenizer

_log = logging.getLogger(__name__)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class LoadedRewardModel:
    """A reward model on a device, with its tokenizer.

    Attributes:
        source: Its record (name, template, context length).
        tokenizer: Its tokenizer.
        model: Sequence classifier with one output, in evaluation mode.
        has_pad: Whether the model's config names a padding token. If not, each batch is padded with an id that occurs in none
            of its rows, so that the score is read at every row's true last token.
    """

    source: ResolvedSource
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    has_pad: bool


def load_reward_model(source: ResolvedSource, *, device: str) -> LoadedRewardModel:
    """Load a reward model resolved by `resolve_reward_model`.

    Raises:
        SourceError: It cannot be loaded, or its checkpoint has no trained score head.
    """
    tokenizer = load_tokenizer(
        source.location, revision=source.revision, trust_remote_code=source.trust_remote_code, source=source.name
    )
    model = load_reward_classifier(source, device=device)
    has_pad = model.config.get_text_config().pad_token_id is not None
    return LoadedRewardModel(source, tokenizer, model, has_pad)


def encode_conversations(
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[TextItem],
    *,
    template: str,
    context_length: int,
    template_date: date = DEFAULT_DATE,
) -> list[npt.NDArray[np.int32]]:
    """Tokenise a reward model's inputs: each conversation with the response as its last turn, int32[T] each.

    A text longer than the context loses its beginning (but not its first special token), as the response is what is scored.
    For templates with `bos_token` and `eos_token`, a BERT-like tokenizer provides its `cls_token` and `sep_token`.
    """
    named = {"bos_token": tokenizer.cls_token, "eos_token": tokenizer.sep_token} | tokenizer.special_tokens_map
    turns = [[*item.messages, Message("assistant", item.response)] for item in items]
    texts = [render_conversation(template, t, date=template_date, **named) for t in turns]
    if not texts:
        return []
    first = tokenizer.bos_token_id if tokenizer.bos_token else tokenizer.cls_token_id
    rows = [np.array(ids, dtype=np.int32) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    too_long = sum(len(row) > context_length for row in rows)
    if too_long > 0:
        _log.warning("%d of %d texts exceed %d tokens: they lose their beginning", too_long, len(rows), context_length)
    return [row if len(row) <= context_length else cut_left(row, context_length, keep_first=first) for row in rows]


@torch.inference_mode()
def reward_scores(
    judge: LoadedRewardModel, items: Sequence[TextItem], *, batch_size: int, on_progress: Progress | None = None
) -> list[float]:
    """Score responses with a reward model; higher is better, the scale is the model's own.

    Args:
        judge: The reward model.
        items: Prompts with responses.
        batch_size: Responses scored together, bucketed by length.
        on_progress: Called with the number of scored responses after each batch.

    Returns:
        Scores in input order.

    Raises:
        NumericsError: A score is not finite; the message names the ids.
    """
    source = judge.source
    rows = encode_conversations(
        judge.tokenizer,
        items,
        template=source.chat_template,
        context_length=source.context_length,
        template_date=date.fromisoformat(source.template_date),
    )
    scores = np.full(len(rows), np.nan)
    done = 0
    for batch in plan_batches([len(row) for row in rows], max_rows=batch_size):
        scores[batch] = _score_rows(judge, [rows[i] for i in batch])
        done += len(batch)
        if on_progress is not None:
            on_progress(done)
    broken = [item.id for item, score in zip(items, scores, strict=True) if not np.isfinite(score)]
    if broken:
        raise NumericsError(
            f"The scores of reward model `{judge.source.name}` must be finite, but are not for {len(broken)} responses: "
            f"{', '.join(broken[:10])}. Load it in float32 or bfloat16."
        )
    return [float(score) for score in scores]


def _score_rows(judge: LoadedRewardModel, rows: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.float64]:
    config = judge.model.config.get_text_config()
    if not judge.has_pad:
        present = set(np.unique(np.concatenate(rows)).tolist())
        config.pad_token_id = next(i for i in range(len(present) + 1) if i not in present)
    input_ids, mask = pad_rows(rows, pad_id=config.pad_token_id, side="right", device=judge.model.device)
    logits = judge.model(input_ids=input_ids, attention_mask=mask).logits
    return np.asarray(logits.float().squeeze(-1).cpu(), dtype=np.float64)
