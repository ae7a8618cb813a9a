"""Decoding over encoded passages: cross-attention keys and values are computed once; log-probabilities of given tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, EncoderDecoderCache, T5ForConditionalGeneration
from transformers.cache_utils import DynamicLayer

# Cross-attention keys and values of a decoder layer; D' is heads × head width.
KeysValues = tuple[Tensor, Tensor]
Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class EncoderMemory:
    """Encoder states that a decoder attends to, one row per decoded sequence.

    Attributes:
        states: Encoder states, [R, S, D].
        mask: True where a token is read, bool[R, S].
        keys_values: By decoder layer, [R, S, D']; empty where the decoder makes its own.
    """

    states: Tensor
    mask: Tensor
    keys_values: tuple[KeysValues, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoded passages of B turns.

    Attributes:
        states: Encoder states, [B, K, L, D]; `concat`: [B, 1, L, D].
        mask: True at real tokens, bool[B, K, L] or [B, 1, L].
        entity_mask: True where a turn has an entity, bool[B, K]. A turn without entities has one passage of context alone.
        keys_values: Cross-attention keys and values by decoder layer, [B, K, L, D'], made once for all decodes.
        contexts: Token ids of the contexts.
        entities: Token ids of the entities of each turn.
    """

    states: Tensor
    mask: Tensor
    entity_mask: Tensor
    keys_values: tuple[KeysValues, ...]
    contexts: Sequence[Ids]
    entities: Sequence[Sequence[Ids]]

    def together(self, keep: Tensor | None = None) -> EncoderMemory:
        """Return all passages of a turn as one row, [B, K·L]; those not kept (bool[B, K]) are not read."""
        mask = self.mask if keep is None else self.mask & (keep | ~self.entity_mask)[:, :, None]
        return EncoderMemory(
            self.states.flatten(1, 2),
            mask.flatten(1, 2),
            tuple((keys.flatten(1, 2), values.flatten(1, 2)) for keys, values in self.keys_values),
        )

    def alone(self, rows: Tensor) -> EncoderMemory:
        """Return passages as rows of their own, [R, L]; `rows` int64[R] are places in the flattened [B·K]."""
        whole = len(rows) == self.mask.shape[0] * self.mask.shape[1]

        def take(tensor: Tensor) -> Tensor:
            flat = tensor.flatten(0, 1)
            return flat if whole else flat[rows]

        return EncoderMemory(take(self.states), take(self.mask), tuple((take(k), take(v)) for k, v in self.keys_values))


def pad_ids(rows: Sequence[Ids], *, pad_id: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return ids int64[R, L] and mask bool[R, L], padded on the right to the longest row."""
    width = max(map(len, rows), default=0)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[place, : len(row)] = True
    if torch.device(device).type == "cuda":
        ids, mask = ids.pin_memory(), mask.pin_memory()
    return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)


def cross_attentions(model: T5ForConditionalGeneration) -> list[Any]:
    """Return the cross-attention of each decoder layer."""
    blocks: Any = model.decoder.block
    return [block.layer[1].EncDecAttention for block in blocks]


def cross_keys_values(model: T5ForConditionalGeneration, states: Tensor) -> tuple[KeysValues, ...]:
    """Project encoder states [..., L, D] to keys and values [..., L, D'] of every decoder layer.

    They depend on the encoder alone, and cost more than the rest of a decode where passages are longer than responses.
    """
    return tuple((attention.k(states), attention.v(states)) for attention in cross_attentions(model))


def decode(model: T5ForConditionalGeneration, memory: EncoderMemory, inputs: Tensor) -> Tensor:
    """Return the decoder's last states [R, T, D] for its input tokens int64[R, T], scaled as the head wants them."""
    output = model.decoder(
        input_ids=inputs,
        encoder_hidden_states=memory.states,
        encoder_attention_mask=memory.mask,
        past_key_values=_cache(model, memory) if memory.keys_values else None,
        use_cache=bool(memory.keys_values),
    )
    hidden: Tensor = output.last_hidden_state
    return hidden * model.config.d_model**-0.5 if model.config.scale_decoder_outputs else hidden


def split_heads(model: T5ForConditionalGeneration, tensor: Tensor) -> Tensor:
    """Return [R, S, heads · width] as [R, heads, S, width], a view."""
    heads: Tensor = tensor.unflatten(-1, (model.config.num_heads, model.config.d_kv))
    return heads.transpose(1, 2)


def _cache(model: T5ForConditionalGeneration, memory: EncoderMemory) -> EncoderDecoderCache:
    ready = DynamicCache()
    for keys, values in memory.keys_values:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        # `update` would copy them.
        layer.keys, layer.values = split_heads(model, keys), split_heads(model, values)
        ready.layers.append(layer)
    return EncoderDecoderCache(DynamicCache(), ready)


def passage_weights(model: T5ForConditionalGeneration, memory: EncoderMemory, inputs: Tensor, token_mask: Tensor) -> Tensor:
    """Return how much each token of the memory is attended to: float32[R, S].

    Cross-attention probability × norm of the value, summed over heads and the response's tokens, and averaged over layers
    (ADist of Atlas before its constant). Queries are caught on their way, so that the decoder keeps its fast attention.

    Args:
        model: The T5.
        memory: Encoder states to attend to.
        inputs: Decoder input tokens, int64[R, T].
        token_mask: Response tokens that count, bool[R, T].
    """
    caught: list[Tensor] = []
    handles = [a.q.register_forward_hook(lambda _m, _i, output: caught.append(output)) for a in cross_attentions(model)]
    try:
        decode(model, memory, inputs)
    finally:
        for handle in handles:
            handle.remove()
    total = torch.zeros_like(memory.mask, dtype=torch.float32)
    keys_values = memory.keys_values or cross_keys_values(model, memory.states)
    for queries, (keys, values) in zip(caught, keys_values, strict=True):
        scores = (split_heads(model, queries) @ split_heads(model, keys).transpose(2, 3)).float()
        probs = scores.masked_fill(~memory.mask[:, None, None], float("-inf")).softmax(-1)
        per_head = (probs * token_mask[:, None, :, None]).sum(2)
        total = total + (per_head * split_heads(model, values).float().norm(dim=-1)).sum(1)
    return total / len(caught)


# Logits made at a time: 64 MiB in float32.
_CHUNK = 1 << 24


def token_logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk: int = _CHUNK) -> Tensor:
    """Return log softmax(hidden @ weightᵀ) at the labels, in float32 also under autocast.

    Logits are made a chunk of rows at a time. If there is more than one chunk and gradients are wanted, the backward pass makes
    them again: [N, V] is never materialised.

    Args:
        hidden: Last decoder states, scaled as the head wants them, [N, D].
        weight: Of the head, [V, D].
        labels: int64[N].
        chunk: Maximum number of logits at a time (at least one row).

    Returns:
        float32[N].
    """
    rows = max(1, chunk // weight.shape[0])
    if len(hidden) <= rows:
        return _logprobs(hidden, weight, labels)
    parts = []
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows], weight, labels[start : start + rows]
        parts.append(checkpoint(_logprobs, *part, use_reentrant=False) if torch.is_grad_enabled() else _logprobs(*part))
    return torch.cat(parts)


def _logprobs(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return -F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="none")
