"""A T5 from scratch: its tokenizer, the marks that every T5 of the dialogue half knows, and initial weights that can copy."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5ForConditionalGeneration

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
USER, SYSTEM, REAL_TIME, ENTITY = "<user>", "<sys>", "<api>", "<database>"
MARKS = (USER, SYSTEM, REAL_TIME, ENTITY)

# A word or a run of punctuation takes its leading blank along; digits stand in pairs, so that numbers never seen are spelled
# in few tokens, all of them known.
_PATTERN = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_log = logging.getLogger(__name__)


def train_t5_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: any text in lower case comes back from its tokens as it was.

    The same texts in the same order give the same tokenizer. Where they have fewer pairs to merge than asked for, the
    vocabulary is smaller.

    Args:
        texts: Dialogues and entities.
        vocab_size: Entries: 3 special tokens, 256 bytes, and merges; marks are added later.
    """
    raw = Tokenizer(BPE())
    # Every stretch of text begins with one blank, so that a value is cut alike wherever it stands: that is what copying needs.
    raw.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip(), normalizers.Prepend(" ")])
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in (PAD, EOS, UNK)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    if raw.get_vocab_size() < vocab_size:
        _log.info("the texts give a vocabulary of %d entries, not %d", raw.get_vocab_size(), vocab_size)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, eos_token=EOS, unk_token=UNK, clean_up_tokenization_spaces=False
    )


def add_marks(tokenizer: PreTrainedTokenizerBase, special_tokens: Sequence[str]) -> int:
    """Add role marks and further special tokens that the tokenizer lacks; return how many were new.

    They take the blanks around them along, so that text between them is cut as if they were not there.
    """
    wanted = dict.fromkeys((*MARKS, *special_tokens))
    new = [AddedToken(t, special=True, normalized=False, lstrip=True, rstrip=True) for t in wanted]
    return int(tokenizer.add_tokens(new, special_tokens=True))


# Relative position bias that makes a head look one token back and nowhere else (the bias is shared by all layers).
_BACK, _BIAS = 1, 12.0
# Weight of the remembered token against the token itself, sharpness of the search, weight of the copied token.
_MEMORY, _MATCH, _COPY = 2.0, 0.7, 2.0


@torch.no_grad()
def init_copy_heads(model: T5ForConditionalGeneration, *, generator: torch.Generator) -> None:
    """Set the first encoder layer's first head and the first cross-attention so that decoding begins as copying.

    Args:
        model: With `num_heads · d_kv = d_model`; other weights stay as they were initialised.
        generator: Draws the directions in which the previous token is remembered.
    """
    width, head = model.config.d_model, model.config.d_kv
    what, where = (_directions(width, generator)[:head] for _ in range(2))
    encoder_blocks: Any = model.encoder.block
    decoder_blocks: Any = model.decoder.block
    encoder, cross = encoder_blocks[0].layer[0].SelfAttention, decoder_blocks[0].layer[1].EncDecAttention
    first = slice(0, head)
    encoder.relative_attention_bias.weight[:, 0] = 0
    encoder.relative_attention_bias.weight[_BACK, 0] = _BIAS
    encoder.q.weight[first] = 0
    encoder.v.weight[first] = what
    encoder.o.weight[:, first] = _MEMORY * where.T
    heads = model.config.num_heads
    cross.q.weight.copy_(_MATCH * what.repeat(heads, 1))
    cross.k.weight.copy_(_MATCH * where.repeat(heads, 1))
    cross.v.weight.copy_(torch.eye(width))
    cross.o.weight.copy_(_COPY * torch.eye(width))


def _directions(width: int, generator: torch.Generator) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    return basis
