"""Byte-level BPE tokenizers for the embedded sources.

The letter of a tokenizer is its recipe: letters differ in how they split digits and in which family weighs most in the text their
merges are learned from, so that two letters really cut the same text differently. Same letter, size and text: same tokenizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from models.data.corpus import read_examples
from models.errors import SourceError
from models.tokenization.chat import PRESETS

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT_LENGTH = 512

# Words and numbers take their leading blank along. `{digits}` is one digit, or up to three together.
_PATTERN = r" ?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class TokenizerRecipe:
    """How the tokenizer of one letter is made.

    Attributes:
        digits: Longest run of digits that may become one token.
        repeats: Times each family's text is read, by the family's place in the alphabet (taken in turn).
    """

    digits: int
    repeats: tuple[int, ...]


def tokenizer_recipe(letter: str) -> TokenizerRecipe:
    """Derive the recipe from the letter: `a` splits digits and weighs the first family most, `b` neither, and so on."""
    number = sum(letter.encode()) - ord("a")
    heavy = -number % 3
    return TokenizerRecipe(digits=1 if number % 2 == 0 else 3, repeats=tuple(4 if i == heavy else 1 for i in range(3)))


def train_tokenizer(letter: str, pretrain: Path, *, vocab_size: int, out: Path) -> PreTrainedTokenizerFast:
    """Train the tokenizer of `letter` on the pre-training rows and save it as a Hugging Face folder.

    Args:
        letter: Name of the recipe.
        pretrain: Folder with one examples file per family.
        vocab_size: Entries: 256 bytes, 3 special tokens, and merges.
        out: Folder to write.

    Raises:
        SourceError: There are no pre-training rows, or too few for that many merges.
    """
    recipe = tokenizer_recipe(letter)
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = _pre_tokenizer(recipe.digits)
    raw.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in (PAD, BOS, EOS)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(_texts(pretrain, recipe), trainer)
    if raw.get_vocab_size() != vocab_size:
        raise SourceError(
            f"Tokenizer `{letter}` must have {vocab_size} entries, but the text in {pretrain} gives {raw.get_vocab_size()}. "
            "Lower `vocab_size` of the sources that use it, or raise `corpus.world.num_pretrain`."
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = PRESETS["plain"]
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    return tokenizer


def _pre_tokenizer(digits: int) -> pre_tokenizers.PreTokenizer:
    pattern = _PATTERN.format(digits=r" ?\p{N}" if digits == 1 else rf" ?\p{{N}}{{1,{digits}}}")
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _texts(pretrain: Path, recipe: TokenizerRecipe) -> Iterator[str]:
    files = sorted(pretrain.glob("*.jsonl"))
    if not files:
        raise SourceError(f"There are no pre-training rows in {pretrain}. Run the stage `prepare` with `corpus.kind: embedded`.")
    for place, file in enumerate(files):
        for _ in range(recipe.repeats[place % len(recipe.repeats)]):
            for example in read_examples(file):
                yield "\n".join((*(m.content for m in example.messages), example.response))
