import subprocess
import sys

import pytest
import torch

from models.dialogue.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser, train_wordpiece
from models.errors import DataError
from models.params.retriever import PicoEncoder

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


WORDS = ["the golden house in the north", "a cheap and cheerful hotel", "zebra crossing ; phone 01223 351880", "naïve café"]

_SCRIPT = f"""
from models.dialogue.retrieval.pico_encoder import train_wordpiece
import hashlib
print(hashlib.sha256(train_wordpiece({WORDS!r}, vocab_size=90).to_str().encode()).hexdigest())
"""


def test_every_process_learns_the_same_pieces() -> None:
    digests = {
        subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True).stdout for _ in range(2)
    }
    assert len(digests) == 1


def test_words_are_cut_into_known_pieces() -> None:
    tokenizer = train_wordpiece(WORDS, vocab_size=400)
    assert tokenizer.encode("Golden CHEERFUL", add_special_tokens=False).tokens == ["golden", "cheerful"]
    unseen = tokenizer.encode("golen", add_special_tokens=False).tokens
    assert "".join(piece.removeprefix("##") for piece in unseen) == "golen"
    assert tokenizer.encode("##", add_special_tokens=False).tokens == ["[UNK]", "[UNK]"]


def test_vocabulary_is_as_large_as_asked_where_the_text_allows() -> None:
    assert train_wordpiece(WORDS, vocab_size=90).get_vocab_size() == 90


def test_no_words_is_an_error() -> None:
    with pytest.raises(DataError, match="must hold words"):
        train_wordpiece(["", " "], vocab_size=200)
