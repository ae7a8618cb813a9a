"""A small BERT from scratch with a WordPiece tokenizer of its own; the same texts and seed give the same bits."""

from collections.abc import Iterable

import torch
from transformers import BertConfig, BertModel

from models.params.retriever import PicoEncoder
from models.retrieval.tokenising import TextTokeniser
from models.retrieval.wordpiece import CLS, PAD, SEP, train_wordpiece

# Larger than BERT's 0.02, which suits widths in the hundreds: narrow models start learning sooner with it.
_INIT = 0.05


def train_pico_tokeniser(texts: Iterable[str], *, vocab_size: int) -> TextTokeniser:
    """Train the tokenizer.

    Raises:
        DataError: The texts hold no word.
    """
    tokenizer = train_wordpiece(texts, vocab_size=vocab_size)
    ids = tokenizer.get_vocab()
    return TextTokeniser(tokenizer, cls_id=ids[CLS], sep_id=ids[SEP], pad_id=ids[PAD])


def build_pico_encoder(sizes: PicoEncoder, tokeniser: TextTokeniser, *, max_tokens: int, seed: int) -> BertModel:
    """Make an untrained encoder; torch's global generator is left as it was."""
    config = BertConfig(
        vocab_size=tokeniser.tokenizer.get_vocab_size(),
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=4 * sizes.hidden_size,
        max_position_embeddings=max_tokens,
        pad_token_id=tokeniser.pad_id,
        initializer_range=_INIT,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(config, add_pooling_layer=False)
