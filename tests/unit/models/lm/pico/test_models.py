from pathlib import Path

import pytest

from models.corpus.examples import write_examples
from models.errors import SourceError
from models.lm.pico.models import tokenizer_recipe, train_tokenizer
from models.params.corpus import WorldParams
from models.tokenization.chat import PRESETS
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer
from models.world.instructions import FAMILIES, assign_items, pretrain_examples
from models.world.town import build_world

CFG = WorldParams(num_train=48, num_valid=6, num_test=24, num_pretrain=6000)
TEXTS = [
    "Which is largest: 14, 3 or 205?",
    "Klofa Table is in the east.",
    "  two  blanks\n\nand 12345",
    "naïve 東京 🙂",
    "<s>",
    "",
]


@pytest.fixture(scope="module")
def pretrain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    world = build_world(7, num_entities=CFG.num_entities)
    assigned = assign_items(world, CFG)
    for family in FAMILIES:
        write_examples(folder / f"{family}.jsonl", pretrain_examples(assigned, family, world=world))
    return folder


@pytest.fixture(scope="module")
def codecs(pretrain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenCodec]:
    out = tmp_path_factory.mktemp("tokenizers")
    for letter, size in (("a", 400), ("b", 500)):
        train_tokenizer(letter, pretrain, vocab_size=size, out=out / letter)
    return {letter: TokenCodec(load_tokenizer(str(out / letter), source=letter), source=letter) for letter in "ab"}


@pytest.mark.parametrize("letter", ["a", "b"])
def test_any_text_survives_byte_for_byte(codecs: dict[str, TokenCodec], letter: str) -> None:
    codec = codecs[letter]
    for text, encoded in zip(TEXTS, codec.encode_responses(TEXTS), strict=True):
        assert encoded.lossless
        assert codec.decode(encoded.ids) == text


def test_sizes_special_tokens_and_template(codecs: dict[str, TokenCodec]) -> None:
    assert [codecs[letter].vocab_size for letter in "ab"] == [400, 500]
    for codec in codecs.values():
        assert len({codec.bos_id, codec.eos_id, codec.pad_id}) == 3
        assert codec.tokenizer.chat_template == PRESETS["plain"]
        assert codec.tokenizer.model_max_length == 512


def test_letters_cut_the_same_text_differently(codecs: dict[str, TokenCodec]) -> None:
    pieces = {}
    for letter, codec in codecs.items():
        ids = codec.encode_responses(["Order 14, 205 now"])[0].ids
        pieces[letter] = [codec.decode([i]) for i in ids]
    assert all(sum(c.isdigit() for c in piece) <= 1 for piece in pieces["a"]), "a splits digits"
    two = [p for p in codecs["b"].token_bytes if p is not None and sum(c in b"0123456789" for c in p) > 1]
    assert two, "b has tokens of several digits"
    one = [p for p in codecs["a"].token_bytes if p is not None and sum(c in b"0123456789" for c in p) > 1]
    assert not one
    words = {letter: {b for b in codec.token_bytes if b and len(b) > 2} for letter, codec in codecs.items()}
    assert words["a"] - words["b"]
    assert words["b"] - words["a"]


def test_the_recipe_follows_the_letter() -> None:
    assert tokenizer_recipe("a") == tokenizer_recipe("a") != tokenizer_recipe("b")
    assert (tokenizer_recipe("a").digits, tokenizer_recipe("b").digits) == (1, 3)
    assert len({tokenizer_recipe(letter).repeats for letter in "abc"}) == 3


def test_training_is_repeatable(pretrain: Path, tmp_path: Path, codecs: dict[str, TokenCodec]) -> None:
    train_tokenizer("a", pretrain, vocab_size=400, out=tmp_path)
    assert TokenCodec(load_tokenizer(str(tmp_path), source="x"), source="x").digest == codecs["a"].digest


def test_too_little_text_and_no_text_say_so(pretrain: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Tokenizer `a` must have 9000 entries, but the text in .* gives \d+"):
        train_tokenizer("a", pretrain, vocab_size=9000, out=tmp_path / "out")
    with pytest.raises(SourceError, match="no pre-training rows"):
        train_tokenizer("a", tmp_path, vocab_size=400, out=tmp_path / "out")
