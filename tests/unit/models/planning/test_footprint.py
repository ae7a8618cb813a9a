from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MptConfig, PretrainedConfig

from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.signals.shard import write_shard
from models.lm.head import head_of
from models.planning.footprint import (
    ModelSize,
    activation_bytes,
    forward_flops,
    kv_cache_bytes,
    lora_parameters,
    loss_chunk_bytes,
    signal_bytes_per_token,
    store_bytes,
    training_flops,
    training_state_bytes,
    weights_bytes,
)

SEVEN_B = ModelSize(7_000_000_000, vocab_size=32_000, hidden_size=4096, num_layers=32, dtype="bfloat16")


def test_seven_billion_parameters_in_bfloat16_are_14_gb() -> None:
    assert weights_bytes(SEVEN_B) == 14_000_000_000
    assert weights_bytes(SEVEN_B, "float32") == 28_000_000_000


@pytest.mark.parametrize(("recipe", "gigabytes"), [("float32", 112), ("bfloat16_autocast", 126), ("bfloat16", 56)])
def test_adam_states(recipe: str, gigabytes: int) -> None:
    assert training_state_bytes(7_000_000_000, recipe=recipe) == gigabytes * 10**9  # type: ignore[arg-type]


def test_kv_cache_of_llama_2_is_half_a_mebibyte_a_token() -> None:
    assert kv_cache_bytes(SEVEN_B, tokens=1) == 2 * 32 * 4096 * 2 == 512 * 1024
    grouped = ModelSize(8 * 10**9, 128_256, 4096, 32, "bfloat16", kv_width=8 * 128)  # Llama 3: 8 of 32 heads
    assert kv_cache_bytes(grouped, tokens=1000) == 1000 * 128 * 1024


def test_activations_with_and_without_checkpointing() -> None:
    # One sequence of 2048 tokens: 34·2048·4096 bytes = 285 MB a layer.
    assert activation_bytes(SEVEN_B, tokens=2048, dtype="bfloat16", checkpointing=False) == 32 * 34 * 2048 * 4096
    assert activation_bytes(SEVEN_B, tokens=2048, dtype="bfloat16", checkpointing=True) == (34 + 32 * 2) * 2048 * 4096
    assert activation_bytes(SEVEN_B, tokens=2048, dtype="float32", checkpointing=False) == 2 * 32 * 34 * 2048 * 4096


def test_activations_of_gated_layers_and_of_eager_attention() -> None:
    llama = ModelSize(7_000_000_000, 32_000, 4096, 32, gated=True)
    assert activation_bytes(llama, tokens=2048, dtype="bfloat16", checkpointing=False) == 32 * 42 * 2048 * 4096
    mpt = ModelSize(7_000_000_000, 50_432, 4096, 32, eager_heads=32)
    plain = activation_bytes(SEVEN_B, tokens=4096, dtype="bfloat16", checkpointing=False)
    # Two rows of 2048 tokens, 32 heads: 2·32·2048² probabilities of 2 bytes in each of 32 layers.
    kept = activation_bytes(mpt, tokens=4096, dtype="bfloat16", checkpointing=False, length=2048) - plain
    assert kept == 32 * 2 * 32 * 2048**2 * 2


_SIZES = {"vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
LLAMA = LlamaConfig(**_SIZES, intermediate_size=256)
NEOX = GPTNeoXConfig(**_SIZES, intermediate_size=384)
MPT = MptConfig(vocab_size=300, d_model=96, n_layers=3, n_heads=3, expansion_ratio=4, max_seq_len=128)


@pytest.mark.parametrize("config", [LLAMA, NEOX, MPT], ids=lambda config: config.model_type)
def test_activations_are_those_that_autograd_keeps(config: PretrainedConfig) -> None:
    rows, length = 4, 96
    lm = AutoModelForCausalLM.from_config(config)
    weights = {p.untyped_storage().data_ptr() for p in lm.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        hidden = head_of(lm).backbone(torch.randint(0, 300, (rows, length)), None)
    size = ModelSize(0, 300, 96, 3, gated=config is LLAMA, eager_heads=3 if config is MPT else 0)
    expected = activation_bytes(size, tokens=rows * length, dtype="float32", checkpointing=False, length=length)
    assert hidden.shape == (rows, length, 96)
    assert expected == pytest.approx(sum(kept.values()), rel=0.15)


def test_loss_chunk() -> None:
    assert loss_chunk_bytes(SEVEN_B, chunk=1024) == 2 * 1024 * 32_000 * 4  # 262 MB, whatever the batch


@pytest.mark.parametrize(
    ("vocab_size", "top_k", "expected"), [(32_000, 10, 48), (65_536, 10, 48), (65_537, 10, 70), (512, 1, 12)]
)
def test_bytes_of_a_signal_row(vocab_size: int, top_k: int, expected: int) -> None:
    assert signal_bytes_per_token(vocab_size, top_k=top_k) == expected


def test_store_of_52k_responses_of_250_tokens_is_625_mb() -> None:
    assert store_bytes(32_000, top_k=10, num_samples=52_000, num_tokens=52_000 * 250) == 624_000_000 + 20 * 52_000


@pytest.mark.parametrize("vocab_size", [32_000, 152_064])
def test_store_size_is_that_of_a_real_store(tmp_path: Path, vocab_size: int) -> None:
    spec = SignalSpec("s", "m", "t", "c", "d", top_k=10, vocab_size=vocab_size, kind="ground_truth")
    rows = np.linspace(-0.1, -9, 10, dtype=np.float16)
    samples = [
        SampleSignals(
            id=f"example-{i:06d}",
            token_ids=np.zeros(250, np.uint32),
            topk_ids=np.zeros((250, 10), np.uint32),
            topk_logprobs=np.tile(rows, (250, 1)),
            tail=np.full(250, -9, np.float16),
            ce=np.ones(250, np.float32),
        )
        for i in range(40)
    ]
    path = write_shard(tmp_path, 0, spec, samples)
    written = sum(file.stat().st_size for file in path.parent.iterdir())
    assert store_bytes(vocab_size, top_k=10, num_samples=40, num_tokens=40 * 250) == pytest.approx(written, rel=0.01)


def test_flops() -> None:
    assert forward_flops(SEVEN_B, tokens=10, context=0) == 10 * 14e9
    # Attention over 2048 tokens adds 2·32·4096·2048 = 0.54 GFLOP to 14 a token.
    assert forward_flops(SEVEN_B, tokens=1, context=2048) == 14e9 + 536_870_912
    assert training_flops(SEVEN_B, tokens=10, context=0, checkpointing=False) == 6 * 7e9 * 10
    assert training_flops(SEVEN_B, tokens=10, context=0, checkpointing=True) == 8 * 7e9 * 10


def test_lora_parameters_of_llama_2_at_rank_16_are_about_40_million() -> None:
    # Four attention matrices 4096 × 4096, three of the MLP 4096 × 11008, in 32 layers.
    exact = 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    assert exact == 39_976_960
    assert lora_parameters(SEVEN_B, rank=16) == pytest.approx(exact, rel=0.01)
