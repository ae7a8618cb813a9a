import itertools
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5ForConditionalGeneration

from models.dialogue.generators.seq2seq.from_scratch import add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser
from models.params.dialogue import GeneratorParams
from models.params.retriever import PicoEncoder
from models.planning.dialogue_footprint import (
    Reading,
    body_parameters,
    embed_flops,
    fused_flops,
    read_flops,
    reading_bytes,
    single_flops,
    writing_bytes,
)
from models.planning.footprint import ModelSize

T5_BASE = ModelSize(222_903_552, 32_128, 768, 12)
BERT = ModelSize(109_482_240, 30_522, 768, 12)
TURNS, CONTEXT, ENTITY, RESPONSE = 2, 40, 23, 16
# With the end token a passage has 64 tokens.
READING = Reading(passages=5, passage_tokens=64, context_tokens=41, response_tokens=16)


def small_t5(*, checkpointing: bool = False) -> Seq2SeqGenerator:
    """A T5 of published proportions: heads of 64, feed-forward of four times the width."""
    tokenizer = train_t5_tokenizer(["say a b c"] * 3, vocab_size=300)
    add_marks(tokenizer, ())
    config = T5Config(
        vocab_size=1000, d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_heads=4, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0,
    )  # type: ignore[call-arg]  # fmt: skip
    model = T5ForConditionalGeneration(config)
    return Seq2SeqGenerator(GeneratorParams(gradient_checkpointing=checkpointing), model, tokenizer).train()


def size_of(generator: Seq2SeqGenerator) -> ModelSize:
    return ModelSize(sum(p.numel() for p in generator.parameters()), 1000, 256, 4)


def judged(generator: Seq2SeqGenerator, watch: Callable[[], int]) -> tuple[int, int, int]:
    """Return what `watch` counts in encoding, in the likelihood given all entities, and in those given one."""
    contexts, entities = [[5] * CONTEXT] * TURNS, [[[6] * ENTITY] * READING.passages] * TURNS
    response = torch.full((TURNS, RESPONSE), 7), torch.ones(TURNS, RESPONSE, dtype=torch.bool)
    seen = [watch()]
    encoded = generator.encode(contexts, entities, device="cpu")
    seen.append(watch())
    fused = generator.response_logprobs(encoded, *response)
    seen.append(watch())
    single = generator.single_logprobs(encoded, *response)
    seen.append(watch())
    assert fused.shape == (TURNS, RESPONSE)
    assert single.shape == (TURNS, READING.passages, RESPONSE)
    read, together, alone = (after - before for before, after in itertools.pairwise(seen))
    return read, together, alone


def test_body_is_what_is_not_embedding() -> None:
    assert body_parameters(T5_BASE) == 222_903_552 - 32_128 * 768
    # 12 encoder layers of 12·D² and 12 decoder layers of 16·D², but for norms and relative positions.
    assert body_parameters(T5_BASE) == pytest.approx(12 * 28 * 768**2, rel=1e-3)


def test_flops_are_those_that_torch_counts() -> None:
    generator = small_t5()
    size = size_of(generator)
    with FlopCounterMode(display=False) as counter:
        read, together, alone = judged(generator, counter.get_total_flops)
    assert TURNS * fused_flops(size, READING) == pytest.approx(read + together, rel=0.02)
    assert TURNS * single_flops(size, READING) == pytest.approx(alone, rel=0.05)


def test_encoder_flops_are_those_that_torch_counts() -> None:
    # torch counts no attention where there is no dropout.
    sizes = PicoEncoder(vocab_size=300, hidden_size=128, num_layers=3, num_heads=4, dropout=0.1)
    tokeniser = train_pico_tokeniser(["say a b c"] * 3, vocab_size=300)
    encoder = build_pico_encoder(sizes, tokeniser, max_tokens=64, seed=0)
    size = ModelSize(sum(p.numel() for p in encoder.parameters()), encoder.config.vocab_size, 128, 3)
    with FlopCounterMode(display=False) as counter:
        encoder(torch.ones(6, 48, dtype=torch.int64), torch.ones(6, 48, dtype=torch.int64))
    assert embed_flops(size, texts=6, tokens=48) == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_of_the_size_that_backward_keeps(checkpointing: bool) -> None:
    generator = small_t5(checkpointing=checkpointing)
    size = size_of(generator)
    weights = {p.untyped_storage().data_ptr() for p in generator.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        read, together, alone = judged(generator, lambda: sum(kept.values()))
    found = TURNS * reading_bytes(size, READING, checkpointing=checkpointing)
    memory = READING.memory
    decodes = [
        writing_bytes(size, responses=1, tokens=16, memory=memory, read=memory, checkpointing=checkpointing),
        writing_bytes(size, responses=5, tokens=16, memory=64, read=memory, checkpointing=checkpointing),
    ]
    if checkpointing:  # and one layer whole, when its turn comes
        assert read < found < read + TURNS * reading_bytes(size, READING, checkpointing=False) / 3
        assert together + alone < TURNS * sum(decodes)
    else:
        assert found == pytest.approx(read, rel=0.25)
        assert TURNS * sum(decodes) == pytest.approx(together + alone, rel=0.35)


def test_reading_grows_with_passages_and_their_square_of_length() -> None:
    twice = Reading(passages=10, passage_tokens=64, context_tokens=41, response_tokens=16)
    assert read_flops(T5_BASE, passages=10, tokens=64) == 2 * read_flops(T5_BASE, passages=5, tokens=64)
    assert single_flops(T5_BASE, twice) == 2 * single_flops(T5_BASE, READING)
    assert read_flops(T5_BASE, passages=1, tokens=400) > 4 * read_flops(T5_BASE, passages=1, tokens=100)


def test_embedding_a_text_by_hand() -> None:
    body = 109_482_240 - 30_522 * 768
    assert embed_flops(BERT, texts=223, tokens=50) == 223 * 50 * (2 * body + 4 * 12 * 768 * 50)
