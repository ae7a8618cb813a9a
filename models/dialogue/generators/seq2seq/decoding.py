"""Decoding over encoded passages: cross-attention keys and values are computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, T5ForConditionalGeneration
from transformers.cache_utils import DynamicLayer

from models.dialogue.generators.trainable import Ids

# Cross-attention keys and values of a decoder layer; D' is heads × head width.
KeysValues = tuple[Tensor, Tensor]


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
    entities: Sequence[Sequence[list[int]]]

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
