"""FuseLLM's alignment (dynamic time warping over token strings) beside ours on the same tokens and signals.

It finds the neighbours of a token by edit distance; our compatible mode `min_edit_distance` follows the same rule, so that the
share of equal decisions can be stated. The peer is given exactly the vocabulary map that ours uses.
"""

from types import ModuleType
from typing import Any

import numpy as np
from transformers import GPTNeoXTokenizerFast, LlamaTokenizer

from benchmarks.aligned_samples import align_items, draw_signals, make_items
from benchmarks.memory import peak_megabytes
from benchmarks.peer import peer_module
from benchmarks.real_texts import LLAMA2, NEOX, texts_of
from benchmarks.timing import cpu_seconds
from models.params.alignment import AlignmentParams
from models.reporting.results import ResultRow
from models.tokenization.alignment import NO_ROW, align_min_edit, align_starts
from models.tokenization.codec import TokenCodec
from models.tokenization.vocab_map import UNMAPPED, VocabMap, byte_vocab_map

LENGTHS = (256, 1024)  # its time grows with the square: 2,048 tokens take some ten seconds
_ONE_HOT = [1.0]


class PeerAligner:
    """The peer's `transform_step_logits`, with its own tokenizers."""

    def __init__(self, module: ModuleType, source: TokenCodec, target: TokenCodec, vocab_map: VocabMap) -> None:
        """Load the tokenizers in the classes that it knows, and write the map in its form: token string → token string."""
        self._transform = module.transform_step_logits
        self._base, self._blending = LlamaTokenizer.from_pretrained(LLAMA2), GPTNeoXTokenizerFast.from_pretrained(NEOX)
        names = [target.pieces[i] if i != UNMAPPED else "<unk>" for i in vocab_map.ids.tolist()]
        self._map = {p.replace(source.word_start, target.word_start): n for p, n in zip(source.pieces, names, strict=True)}

    def align(self, target_ids: list[int], source_ids: list[int], logits: Any, indices: Any) -> np.ndarray:
        """Return bool[T]: target tokens that it accepts (the others get a one-hot)."""
        given = (self._base, self._blending, self._base.get_vocab(), target_ids, source_ids, logits, indices)
        rows, _ = self._transform(*given, vocab_align_type="soft", blending_to_base_mapping=self._map)
        return np.array([row != _ONE_HOT for row in rows])


def peer_rows(target: TokenCodec, source: TokenCodec) -> list[ResultRow]:
    """Return the rows beside the peer; none without its code."""
    module = peer_module("FuseLLM/src/utils", "others")
    if module is None:
        return []
    vocab_map = byte_vocab_map(source, target)
    peer = PeerAligner(module, source, target, vocab_map)
    return [_row(length, peer, target, source, vocab_map) for length in LENGTHS]


def _row(length: int, peer: PeerAligner, target: TokenCodec, source: TokenCodec, vocab_map: VocabMap) -> ResultRow:
    (text,) = texts_of(length, target, num_texts=1)
    items = make_items([text], source)
    ours, theirs = target.encode_responses([text])[0], source.encode_responses([text])[0]
    signals = draw_signals(theirs, source, np.random.default_rng(0), name="s")
    logits, indices = signals.topk_logprobs[:-1].astype(float).tolist(), signals.topk_ids[:-1].tolist()
    target_ids, source_ids = ours.ids.tolist(), theirs.ids.tolist()
    accepted: list[np.ndarray] = []

    def run_peer() -> None:
        accepted.append(peer.align(target_ids, source_ids, logits, indices))

    peer_s = cpu_seconds(run_peer)
    cfg = AlignmentParams(mode="min_edit_distance")
    seconds = {
        mode: min(cpu_seconds(lambda c=c: align_items(items, target, source, vocab_map, c)) for _ in range(3))
        for mode, c in (("exact", AlignmentParams()), ("compatible", cfg))
    }
    compatible = align_min_edit(ours, theirs, target_codec=target, source_codec=source, vocab_map=vocab_map)[1:] != NO_ROW
    exact = align_starts(ours, theirs)[1:] != NO_ROW
    more = {
        "ours": len(target_ids) / seconds["exact"],
        "peer": len(target_ids) / peer_s,
        "ours_compatible": len(target_ids) / seconds["compatible"],
        "equal_decisions_compatible": float((compatible == accepted[0]).mean()),
        "aligned": float(exact.mean()),
        "peer_aligned": float(accepted[0].mean()),
        "peer_aligned_where_none_ends": float((accepted[0] & ~exact).mean()),
        "target": "184–1,171 tokens/s are the peer's",
    }
    if length == min(LENGTHS):
        more |= {"peak_mb": peak_megabytes(lambda: align_items(items, target, source, vocab_map, AlignmentParams()))}
        more |= {"peer_peak_mb": peak_megabytes(run_peer)}
    name = f"alignment with the top-k, {length:,} target tokens: ours / FuseLLM's, time"
    return ResultRow(name, seconds["exact"] / peer_s, "ratio", num=1, more=more)
