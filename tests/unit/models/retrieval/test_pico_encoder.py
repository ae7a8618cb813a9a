import torch

from models.params.retriever import PicoEncoder
from models.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser

TEXTS = ["the golden house in the north", "a cheap and cheerful hotel"]


def test_seed_decides_the_weights_and_nothing_else_is_drawn() -> None:
    tokeniser = train_pico_tokeniser(TEXTS, vocab_size=200)
    state = torch.get_rng_state()
    sizes = PicoEncoder(hidden_size=32, num_layers=1, num_heads=2)
    models = [build_pico_encoder(sizes, tokeniser, max_tokens=16, seed=seed) for seed in (1, 1, 2)]
    first, same, other = (m.get_input_embeddings().weight for m in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
