"""Model inputs: prompts through a source's chat template, responses as continuations, padded batches of similar length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.errors import DataError, ParamsError, Problem
from models.schema import Message, ResolvedSource
from models.tokenization.chat import render_prompt, response_lead
from models.tokenization.codec import EncodedText, TokenCodec

Overflow = Literal["truncate_left", "error"]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt to be answered."""

    id: str
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class TextItem:
    """A prompt with a response to be scored; `ended`: whether the response is complete, not cut off."""

    id: str
    messages: Sequence[Message]
    response: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """Tokens int32[P] of a prompt that fits the context, and whether its beginning was cut off."""

    ids: Ids
    truncated: bool


@dataclass(frozen=True, slots=True)
class FittedText:
    """A prompt and its response in one source's tokens.

    Attributes:
        prompt: int32[P], P ≥ 1.
        labels: int32[T], the response's tokens and, unless it was cut, the end token; label t is predicted from
            `prompt + labels[:t]`.
        response: How the response was encoded (without the end token).
        truncated: Whether the prompt's beginning was cut.
        ended: Whether the last label is the end token.
    """

    prompt: Ids
    labels: Ids
    response: EncodedText
    truncated: bool
    ended: bool = True

    @property
    def inputs(self) -> Ids:
        """int32[P + max(T, 1) - 1], what a forward pass reads: the last label is predicted, not read."""
        return np.concatenate([self.prompt, self.labels[:-1]])


def fit_prompts(
    source: ResolvedSource, codec: TokenCodec, items: Sequence[PromptItem], *, room: int, overflow: Overflow
) -> list[FittedPrompt]:
    """Render and encode prompts, each truncated to leave `room` new tokens in the source's context.

    A truncated prompt keeps its end, and its leading BOS token (most models use it as an attention sink).

    Raises:
        ParamsError: `room` leaves no space for a prompt.
        DataError: A prompt is empty, or too long under overflow `error`; all such prompts are named.
    """
    budget = source.context_length - room
    if budget < 2:
        rule = f"must be at most {source.context_length - 2}, to leave room for a prompt in the context of `{source.name}`"
        raise ParamsError("Invalid parameters", [Problem("`teach.responses.max_new_tokens`", rule, str(room))])
    problems: list[Problem] = []
    prompts = [
        _fit(ids, item.id, source, codec, budget=budget, overflow=overflow, problems=problems)
        for item, ids in zip(items, _encode(source, codec, items), strict=True)
    ]
    if problems:
        raise DataError(f"Prompts that `{source.name}` cannot read", problems)
    return prompts


def fit_texts(
    source: ResolvedSource, codec: TokenCodec, items: Sequence[TextItem], *, overflow: Overflow, reserve: int = 0
) -> list[FittedText]:
    """Render and encode prompts with their responses; if both do not fit, the prompt is truncated.

    A response is never truncated: its cross-entropy would change, and sources could no longer be compared.

    Args:
        source: The source, for its template and context length.
        codec: Its tokenizer.
        items: Prompts with responses.
        overflow: What to do with a prompt that does not fit in front of its response.
        reserve: Tokens of the context to leave free after the response.

    Raises:
        DataError: A response alone does not fit, or a prompt is empty or (overflow `error`) too long; all are named.
    """
    problems: list[Problem] = []
    end = [codec.with_template(source.chat_template).eos_id]
    responses = codec.encode_responses([item.response for item in items], lead=source_response_lead(source, codec))
    texts: list[FittedText] = []
    for item, ids, response in zip(items, _encode(source, codec, items), responses, strict=True):
        budget = source.context_length - reserve - len(response.ids)
        if budget < 1:
            problems.append(_response_too_long(item.id, source, len(response.ids) + reserve))
            continue
        prompt = _fit(ids, item.id, source, codec, budget=budget, overflow=overflow, problems=problems)
        labels = np.append(response.ids, end if item.ended else []).astype(np.int32)
        texts.append(FittedText(prompt.ids, labels, response, prompt.truncated, item.ended))
    if problems:
        raise DataError(f"Texts that `{source.name}` cannot read", problems)
    return texts


def source_response_lead(source: ResolvedSource, codec: TokenCodec) -> str:
    """Return what the source's template puts between prompt and answer (`" "` for Vicuna and Llama-2): no part of a response."""
    return response_lead(source.chat_template, **codec.template_variables)


def _encode(source: ResolvedSource, codec: TokenCodec, items: Sequence[PromptItem] | Sequence[TextItem]) -> list[Ids]:
    template = source.chat_template
    texts = [render_prompt(template, i.messages, **codec.template_variables) for i in items]
    return codec.encode_prompts(texts)


def _fit(
    ids: Ids, item_id: str, source: ResolvedSource, codec: TokenCodec, *, budget: int, overflow: Overflow, problems: list[Problem]
) -> FittedPrompt:
    if len(ids) == 0:
        hint = f"`{source.name}` needs a token to predict from: its template must write a BOS token, or the prompt some text."
        problems.append(Problem(f"`{item_id}`", "must have a prompt of at least 1 token", "empty", hint))
    if len(ids) <= budget:
        return FittedPrompt(ids, truncated=False)
    if overflow == "error":
        rule = f"must have a prompt of at most {budget} tokens of `{source.name}`"
        problems.append(
            Problem(f"`{item_id}`", rule, str(len(ids)), "Shorten it, or set `teach.prompt_overflow` to `truncate_left`.")
        )
    return FittedPrompt(cut_left(ids, budget, keep_first=codec.bos_id), truncated=True)


def cut_left(ids: Ids, budget: int, *, keep_first: int | None) -> Ids:
    """Keep the last `budget` tokens; if the first token is `keep_first`, it replaces the first of them."""
    cut = ids[len(ids) - budget :].copy()
    if budget > 1 and keep_first is not None and ids[0] == keep_first:
        cut[0] = keep_first
    return cut


def _response_too_long(item_id: str, source: ResolvedSource, length: int) -> Problem:
    rule = f"must have a response of at most {source.context_length - 1} tokens of `{source.name}`, to fit its context"
    hint = "Leave such rows out (`corpus.sets[].max_chars`), or raise the source's `context_length` if its model allows."
    return Problem(f"`{item_id}`", rule, str(length), hint)


def plan_batches(lengths: Sequence[int], *, max_rows: int | None = None, max_tokens: int | None = None) -> list[list[int]]:
    """Batch rows with little padding: sorted by length, limited by rows or padded tokens.

    The longest rows come first, so that a batch that does not fit into memory fails at once. The plan depends on the lengths
    alone (ties keep the input order), so the same rows are always batched together.

    Args:
        lengths: Tokens of each row.
        max_rows: Maximum rows of a batch.
        max_tokens: Maximum padded tokens (rows × longest row) of a batch; a longer row forms a batch alone.

    Returns:
        Batches of indices into `lengths`; each index is in exactly one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    widest = 0
    for index in order:
        rows = len(batches[-1]) + 1 if batches else 0
        full = (max_rows is not None and rows > max_rows) or (max_tokens is not None and rows * widest > max_tokens)
        if not batches or full:
            batches.append([])
            widest = lengths[index]
        batches[-1].append(index)
    return batches


def pad_rows(
    rows: Sequence[npt.NDArray[np.int32]], *, pad_id: int, side: Literal["left", "right"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Stack rows of token ids into `input_ids` and `attention_mask`, both int64[B, T] on `device`."""
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        place = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        ids[i, place] = row
        mask[i, place] = 1
    return to_device(torch.from_numpy(ids), device), to_device(torch.from_numpy(mask), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device; through pinned memory, without waiting, when that is CUDA."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
