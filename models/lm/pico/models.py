"""Construction of the embedded models: randomly initialised architectures and their byte-level BPE tokenizers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from models.corpus.examples import read_examples
from models.errors import SourceError
from models.params.sources import PicoSpec, RewardModelSpec
from models.tokenization.chat import PRESETS
from models.tokenization.codec import TokenCodec

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT_LENGTH = 512

# Words and numbers take their leading blank along. `{digits}` is one digit, or up to three together.
_PATTERN = r" ?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class TokenizerRecipe:
    """How the tokenizer with a given letter is trained.

    Attributes:
        digits: Longest run of digits that may become one token.
        repeats: Number of times each family's text is read, cycled over the families in alphabetical order.
    """

    digits: int
    repeats: tuple[int, ...]


def tokenizer_recipe(letter: str) -> TokenizerRecipe:
    """Derive the recipe from the letter: alternately split digits or keep up to three, and weight another family most."""
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
    tokenizer = byte_level_tokenizer(_texts(pretrain, recipe), vocab_size=vocab_size, digits=recipe.digits)
    if len(tokenizer) != vocab_size:
        raise SourceError(
            f"Tokenizer `{letter}` must have {vocab_size} entries, but the text in {pretrain} gives {len(tokenizer)}. "
            "Lower `vocab_size` of the sources that use it, or raise `corpus.world.num_pretrain`."
        )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    return tokenizer


def byte_level_tokenizer(texts: Iterable[str], *, vocab_size: int, digits: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the chat template `plain`.

    Args:
        texts: In the order in which they are read.
        vocab_size: Entries: 256 bytes, 3 special tokens, and merges; fewer where the texts have fewer pairs to merge.
        digits: Longest run of digits that may become one token.
    """
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = _pre_tokenizer(digits)
    raw.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in (PAD, BOS, EOS)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
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
                yield "\n".join((*(m.content for m in example.messages), example.ground_truth))


# Larger than the usual 0.02, which suits widths in the thousands: narrow models start learning sooner with it.
_INIT = 0.05
# The initialisers draw from torch's global generator, which threads share.
_INIT_LOCK = Lock()


def build_pico_model(spec: PicoSpec, codec: TokenCodec) -> PreTrainedModel:
    """Build a randomly initialised causal language model from its recipe; input and output embeddings are tied."""
    common = {**_tokens(codec), "initializer_range": _INIT, "tie_word_embeddings": True}
    with _seeded(spec.seed):
        return _ARCHITECTURES[spec.architecture](spec, common)


def build_pico_reward_model(spec: RewardModelSpec, codec: TokenCodec) -> PreTrainedModel:
    """Build a randomly initialised Llama-style sequence classifier with one output, read at a row's last token."""
    sizes = _llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.hidden_size // 16)
    one_score: dict[str, Any] = {"initializer_range": _INIT, "num_labels": 1, "use_cache": False}
    with _seeded(spec.seed):
        return LlamaForSequenceClassification(LlamaConfig(**sizes, **_tokens(codec), **one_score))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with _INIT_LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _tokens(codec: TokenCodec) -> dict[str, Any]:
    return {
        "vocab_size": codec.vocab_size,
        "bos_token_id": codec.bos_id,
        "eos_token_id": codec.eos_id,
        "pad_token_id": codec.pad_id,
    }


def _llama_sizes(width: int, layers: int, *, num_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        # Two thirds of 4·D, because SwiGLU has three matrices instead of two.
        "intermediate_size": max(16, 8 * width // 3 // 16 * 16),
        "num_hidden_layers": layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_heads,
        "max_position_embeddings": CONTEXT_LENGTH,
    }


def _llama(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.num_heads), **common))


def _mistral(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    sizes = _llama_sizes(spec.hidden_size, spec.num_layers, num_heads=spec.num_heads)
    return MistralForCausalLM(MistralConfig(**sizes, **common, sliding_window=None))


def _gpt_neox(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=spec.hidden_size,
            intermediate_size=4 * spec.hidden_size,
            num_hidden_layers=spec.num_layers,
            num_attention_heads=spec.num_heads,
            max_position_embeddings=CONTEXT_LENGTH,
            **common,
        )
    )


def _mpt(spec: PicoSpec, common: Mapping[str, Any]) -> PreTrainedModel:
    return MptForCausalLM(
        MptConfig(
            d_model=spec.hidden_size,
            n_layers=spec.num_layers,
            n_heads=spec.num_heads,
            max_seq_len=CONTEXT_LENGTH,
            use_cache=True,
            **common,
        )
    )


_ARCHITECTURES: Mapping[str, Callable[[PicoSpec, Mapping[str, Any]], PreTrainedModel]] = {
    "llama": _llama,
    "mistral": _mistral,
    "gpt_neox": _gpt_neox,
    "mpt": _mpt,
}
