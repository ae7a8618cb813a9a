"""A small BERT from scratch with its own WordPiece tokenizer; the same texts and seed give the same bits in every process."""

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, BertModel

from models.errors import DataError, Problem
from models.lm.sentence_encoder import TextTokenizer
from models.params.retriever import PicoEncoder

PAD, UNKNOWN, CLS, SEP = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def train_wordpiece(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Train a WordPiece tokenizer, lower case.

    Raises:
        DataError: The texts hold no word.
    """
    words = _count_words(texts)
    if not words:
        raise DataError("No tokenizer can be trained", [Problem("the training texts", "must hold words", "without any")])
    # Inner letters (`##a`) are numbered before training: the trainer would do it in the order of a hash table, and break
    # ties by these numbers, so that two processes would learn different pieces.
    inner = sorted({f"##{letter}" for word in words for letter in word[1:]})
    letters = sorted({word[0] for word in words})
    raw = Tokenizer(WordPiece(unk_token=UNKNOWN))
    raw.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=max(vocab_size, len(SPECIAL) + len(inner) + len(letters)),
        special_tokens=[*SPECIAL, *inner],
        initial_alphabet=letters,
        show_progress=False,
    )
    raw.train_from_iterator(_repeated(words), trainer)
    vocab = raw.get_vocab(with_added_tokens=True)
    final = Tokenizer(WordPiece(vocab, unk_token=UNKNOWN))
    final.normalizer, final.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    return final


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Words with their counts: memory grows with the vocabulary, not with the corpus."""
    normaliser, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text)))
    return words


def _repeated(words: Counter[str]) -> Iterator[str]:
    for word in sorted(words):
        for start in range(0, words[word], 1000):
            yield " ".join([word] * min(1000, words[word] - start))


# Larger than BERT's 0.02, which suits widths in the hundreds: narrow models start learning sooner with it.
_INIT = 0.05


def train_pico_tokeniser(texts: Iterable[str], *, vocab_size: int) -> TextTokenizer:
    """Train the tokenizer.

    Raises:
        DataError: The texts hold no word.
    """
    tokenizer = train_wordpiece(texts, vocab_size=vocab_size)
    ids = tokenizer.get_vocab()
    return TextTokenizer(tokenizer, cls_id=ids[CLS], sep_id=ids[SEP], pad_id=ids[PAD])


def build_pico_encoder(sizes: PicoEncoder, tokeniser: TextTokenizer, *, max_tokens: int, seed: int) -> BertModel:
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
