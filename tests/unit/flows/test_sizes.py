import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split, WhitespaceSplit

from flows.sizes import _measure, folder_size

ROWS = [("one two three", "four five"), ("a much longer prompt than the one before it", "yes")]


def corpus(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    for split, rows in (("train", ROWS), ("valid", ROWS[:1]), ("test", ROWS[:1])):
        lines = [
            json.dumps({"id": f"{split}{i}", "messages": [{"role": "user", "content": p}], "response": r, "family": "t"})
            for i, (p, r) in enumerate(rows)
        ]
        (place / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def tokenizer(*, letters: bool) -> Tokenizer:
    made = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = Split("", "isolated") if letters else WhitespaceSplit()
    return made


def test_lengths_are_those_of_the_tokenizer_that_makes_most_tokens(tmp_path: Path) -> None:
    words, letters = tokenizer(letters=False), tokenizer(letters=True)
    size = _measure(corpus(tmp_path), bytes_per_token=4.0, tokenizers=[words, letters], extra_bytes=0)
    total = sum(len(p) + len(r) for p, r in ROWS)
    assert size.bytes_per_token == pytest.approx(total / (total + len(ROWS)), rel=1e-6), "a line break joins the two"
    longest = max(len(p) + len(r) + 1 for p, r in ROWS)
    assert size.longest_row == longest
    assert size.longest_prompt == max(len(p) for p, _ in ROWS)
    assert size.longest_tokens(1000) == longest + 1
    assert size.longest_tokens(20) == 20


def test_without_a_tokenizer_the_bytes_are_divided(tmp_path: Path) -> None:
    size = _measure(corpus(tmp_path), bytes_per_token=4.0, tokenizers=[], extra_bytes=0)
    assert size.bytes_per_token == 4.0 and size.longest_row is None
    assert size.longest_tokens(1000) == -(-size.longest_bytes // 4) + 1


@pytest.mark.parametrize(
    ("family", "gated", "eager_heads"), [("llama", True, 0), ("mistral", True, 0), ("gpt_neox", False, 0), ("mpt", False, 4)]
)
def test_what_a_layer_keeps_depends_on_the_architecture(
    pico_folder: Callable[..., Path], family: str, gated: bool, eager_heads: int
) -> None:
    size = folder_size(pico_folder(family), dtype="float32")
    assert (size.gated, size.eager_heads) == (gated, eager_heads)
