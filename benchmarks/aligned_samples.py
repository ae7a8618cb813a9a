"""Signals drawn at random for real texts, and the pipeline's alignment of them."""

from collections.abc import Sequence

import numpy as np

from models.fusion.alignment.target_signals import AlignedShard, AlignItem, ChatTokenizer, align_shard
from models.fusion.signals.record import SampleSignals
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.chat import PRESETS
from models.tokenization.codec import EncodedText, TokenCodec
from models.tokenization.vocab_map import VocabMap

PLAIN = "plain"
"""Name of the one source, and its template."""

_PROMPT = (Message("user", "Say it in your own words."),)


def draw_signals(text: EncodedText, codec: TokenCodec, rng: np.random.Generator, *, name: str, top_k: int = 10) -> SampleSignals:
    """Draw a peaked teacher: the text's own token first, K − 1 others behind it, 5 % in the tail."""
    rows = len(text.ids) + 1
    probs = np.sort(rng.dirichlet(np.full(top_k, 0.3), rows), axis=1)[:, ::-1] * 0.95 + 1e-6
    token_ids = np.append(text.ids, codec.eos_id).astype(np.uint32)
    topk_ids = rng.integers(0, codec.vocab_size, (rows, top_k)).astype(np.uint32)
    topk_ids[:, 0] = token_ids
    return SampleSignals(
        id=name,
        token_ids=token_ids,
        topk_ids=topk_ids,
        topk_logprobs=np.log(probs).astype(np.float16),
        tail=np.full(rows, np.log(0.05), np.float16),
        ce=-np.log(probs[:, 0]).astype(np.float32),
    )


def make_items(texts: Sequence[str], source: TokenCodec) -> list[AlignItem]:
    """Return the texts with drawn signals in the source's tokens."""
    rng = np.random.default_rng(0)
    lead = ChatTokenizer(source, PRESETS[PLAIN]).lead
    encoded = source.encode_responses(texts, lead=lead)
    return [
        AlignItem(_PROMPT, text, PLAIN, draw_signals(one, source, rng, name=f"s{i}"))
        for i, (text, one) in enumerate(zip(texts, encoded, strict=True))
    ]


def align_items(
    items: Sequence[AlignItem], target: TokenCodec, source: TokenCodec, vocab_map: VocabMap | None, cfg: AlignmentParams
) -> AlignedShard:
    """Align them as the pipeline does."""
    parties = ChatTokenizer(target, PRESETS[PLAIN]), ChatTokenizer(source, PRESETS[PLAIN])
    return align_shard(items, target=parties[0], sources={PLAIN: parties[1]}, maps={PLAIN: vocab_map}, cfg=cfg)
