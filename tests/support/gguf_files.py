"""Tiny GGUF files of the Llama kind, written by the package `gguf`: random weights, a byte-level tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# Without the package there is nothing to test with: `make setup-dev` installs it.
pytest.importorskip("gguf", reason="the package `gguf` is not installed: pip install -e '.[gguf]'")

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 64, 2, 4, 96, 128
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def byte_tokens() -> list[str]:
    """Return `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`, the 256 byte letters, and the merge `Ġt`."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "Ġt"]


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    template: str | None = TEMPLATE,
    quantise: bool = True,
    values: Mapping[str, int] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write a file.

    Args:
        path: The file.
        architecture: What `general.architecture` says.
        template: Chat template; None = none, as base models have it.
        quantise: Whether the matrices are stored as Q8_0 instead of float32.
        values: Further values.
        without: Tensors to leave out.
    """
    import gguf
    import numpy as np

    tokens = byte_tokens()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *([1] * 257)])
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    if template is not None:
        writer.add_chat_template(template)
    for key, value in (values or {}).items():
        writer.add_uint32(key, value)
    rng = np.random.default_rng(0)
    for name, shape in tensor_shapes(len(tokens)).items():
        if name in without:
            continue
        weights = rng.normal(0, 0.05, shape).astype(np.float32) if len(shape) > 1 else np.ones(shape, np.float32)
        kind: Any = gguf.GGMLQuantizationType.Q8_0 if quantise and len(shape) > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_shapes(vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors, as torch has them; the head is tied."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab_size, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{part}.weight"] = (WIDTH, WIDTH)
        shapes[f"blk.{layer}.ffn_gate.weight"] = shapes[f"blk.{layer}.ffn_up.weight"] = (INNER, WIDTH)
        shapes[f"blk.{layer}.ffn_down.weight"] = (WIDTH, INNER)
        shapes[f"blk.{layer}.attn_norm.weight"] = shapes[f"blk.{layer}.ffn_norm.weight"] = (WIDTH,)
    return shapes
