"""Initial weights with which a T5 from scratch can copy from what it reads.

A small T5 trained on a thousand turns learns the values of its training entities by heart; entities it has never seen it
cannot name. Copying takes two layers that work together: the encoder must remember at each token which one stood before it, and
the decoder must look for the place whose remembered token is its own last one, and say what stands there. Both are linear maps of
embeddings, so they can be put into the initial weights of an unchanged architecture; training goes on from there.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

# Relative position bias that makes a head look one token back and nowhere else (the bias is shared by all layers).
_BACK, _BIAS = 1, 12.0
# How loud the remembered token is beside the token itself, how sharp the search is, and how loud the copied token.
_MEMORY, _MATCH, _COPY = 2.0, 0.7, 2.0


@torch.no_grad()
def teach_copying(model: T5ForConditionalGeneration, *, generator: torch.Generator) -> None:
    """Set the first encoder layer's first head and the first cross-attention so that decoding begins as copying.

    Args:
        model: With `num_heads · d_kv = d_model`; other weights stay as they were initialised.
        generator: Draws the directions in which the previous token is remembered.
    """
    width, head = model.config.d_model, model.config.d_kv
    what, where = (_directions(width, generator)[:head] for _ in range(2))
    encoder_blocks: Any = model.encoder.block
    decoder_blocks: Any = model.decoder.block
    encoder, cross = encoder_blocks[0].layer[0].SelfAttention, decoder_blocks[0].layer[1].EncDecAttention
    first = slice(0, head)
    encoder.relative_attention_bias.weight[:, 0] = 0
    encoder.relative_attention_bias.weight[_BACK, 0] = _BIAS
    encoder.q.weight[first] = 0
    encoder.v.weight[first] = what
    encoder.o.weight[:, first] = _MEMORY * where.T
    heads = model.config.num_heads
    cross.q.weight.copy_(_MATCH * what.repeat(heads, 1))
    cross.k.weight.copy_(_MATCH * where.repeat(heads, 1))
    cross.v.weight.copy_(torch.eye(width))
    cross.o.weight.copy_(_COPY * torch.eye(width))


def _directions(width: int, generator: torch.Generator) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    return basis
