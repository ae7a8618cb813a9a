"""Untrained models of an embedded recipe's size. The same seed gives the same weights; the global seed is left alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)

from models.params.sources import PicoSpec, RewardModelSpec
from models.tokenization.codec import TokenCodec
from models.training.pico_tokenizer import CONTEXT_LENGTH

# Larger than the usual 0.02, which suits widths in the thousands: narrow models start learning sooner with it.
_INIT = 0.05
# The initialisers draw from torch's global generator, which threads share.
_DRAWING = Lock()


def build_pico_model(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    """Make the causal language model of a recipe; input and output embeddings are tied."""
    common = {**_tokens(codec), "initializer_range": _INIT, "tie_word_embeddings": True}
    with _seeded(spec.seed):
        return _ARCHITECTURES[spec.architecture](spec, common)


def build_pico_reward_model(spec: RewardModelSpec, codec: TokenCodec) -> PreTrainedModel:
    """Make a Llama-style sequence classifier with one output, read at a row's last token."""
    sizes = _llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.hidden_size // 16)
    one_score: dict[str, Any] = {"initializer_range": _INIT, "num_labels": 1, "use_cache": False}
    with _seeded(spec.seed):
        return LlamaForSequenceClassification(LlamaConfig(**sizes, **_tokens(codec), **one_score))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _tokens(codec: TokenCodec) -> dict[str, Any]:
    return {
        "vocab_size": codec.vocab_size,
        "bos_token_id": codec.bos_id,
        "eos_token_id": codec.eos_id,
        "pad_token_id": codec.pad_id,
    }


def _llama_sizes(width: int, layers: int, *, num_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        # Two thirds of 4·D, as three matrices do the work of two.
        "intermediate_size": max(16, 8 * width // 3 // 16 * 16),
        "num_hidden_layers": layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_heads,
        "max_position_embeddings": CONTEXT_LENGTH,
    }


def _llama(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.num_heads), **common))


def _mistral(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    sizes = _llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.num_heads)
    return MistralForCausalLM(MistralConfig(**sizes, **common, sliding_window=None))


def _gpt_neox(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=spec.hidden_size,
            intermediate_size=4 * spec.hidden_size,
            num_hidden_layers=spec.num_layers,
            num_attention_heads=spec.num_heads,
            max_position_embeddings=CONTEXT_LENGTH,
            **common,
        )
    )


def _mpt(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return MptForCausalLM(
        MptConfig(
            d_model=spec.hidden_size,
            n_layers=spec.num_layers,
            n_heads=spec.num_heads,
            max_seq_len=CONTEXT_LENGTH,
            use_cache=True,
            **common,
        )
    )


_ARCHITECTURES: Mapping[str, Callable[[PicoSpec, Mapping[str, Any]], PreTrainedModel]] = {
    "llama": _llama,
    "mistral": _mistral,
    "gpt_neox": _gpt_neox,
    "mpt": _mpt,
}
