"""A source of 17 million parameters with random weights and a vocabulary of 8,000, and texts of given lengths in its tokens."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from models.lm.loading import LoadedSource, load_source
from models.lm.resolve import resolve_source
from models.params.sources import SourceSpec

VOCABULARY = 8000
CONTEXT = 1024
SIZES = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6}


@contextmanager
def small_source() -> Iterator[LoadedSource]:
    """Make the model, save it as any source is saved, and load it by the product's own way, float32 on the CPU."""
    with TemporaryDirectory() as folder:
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(folder)
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        disable_progress_bar()
        torch.manual_seed(0)
        config = LlamaConfig(**SIZES, **ends, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, tie_word_embeddings=True)
        LlamaForCausalLM(config).save_pretrained(folder)
        spec = SourceSpec(name="small", model=folder, chat_template="plain")
        yield load_source(resolve_source(spec, root=Path(folder)), device="cpu")


def text_of(num_tokens: int, *, seed: int) -> str:
    """Return a text of about that many tokens: words the vocabulary knows."""
    return " ".join(random.Random(seed).choices(_words(), k=num_tokens))


@cache
def _words() -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 8))) for _ in range(1500)]


def _tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator((f" {word} {word}" for word in _words()), trainer)
    raw.add_tokens([f"<{i}>" for i in range(VOCABULARY - raw.get_vocab_size())])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
