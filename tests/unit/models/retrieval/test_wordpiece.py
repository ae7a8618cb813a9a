import subprocess
import sys

import pytest

from models.errors import DataError
from models.retrieval.wordpiece import train_wordpiece

TEXTS = ["the golden house in the north", "a cheap and cheerful hotel", "zebra crossing ; phone 01223 351880", "naïve café"]

_SCRIPT = f"""
from models.retrieval.wordpiece import train_wordpiece
import hashlib
print(hashlib.sha256(train_wordpiece({TEXTS!r}, vocab_size=90).to_str().encode()).hexdigest())
"""


def test_every_process_learns_the_same_pieces() -> None:
    digests = {
        subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True).stdout for _ in range(2)
    }
    assert len(digests) == 1


def test_words_are_cut_into_known_pieces() -> None:
    tokenizer = train_wordpiece(TEXTS, vocab_size=400)
    assert tokenizer.encode("Golden CHEERFUL", add_special_tokens=False).tokens == ["golden", "cheerful"]
    unseen = tokenizer.encode("golen", add_special_tokens=False).tokens
    assert "".join(piece.removeprefix("##") for piece in unseen) == "golen"
    assert tokenizer.encode("##", add_special_tokens=False).tokens == ["[UNK]", "[UNK]"]


def test_vocabulary_is_as_large_as_asked_where_the_text_allows() -> None:
    assert train_wordpiece(TEXTS, vocab_size=90).get_vocab_size() == 90


def test_no_words_is_an_error() -> None:
    with pytest.raises(DataError, match="must hold words"):
        train_wordpiece(["", " "], vocab_size=200)
