"""One text, and one block of rows, at a time: what the library does for whole shards."""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.fusion.alignment.distribution import map_rows, merge_duplicates
from models.fusion.alignment.target_signals import AlignItem, ChatTokenizer, align_shard
from models.fusion.signals.record import SampleSignals
from models.params.alignment import AlignmentParams
from models.tokenization.alignment import Coverage
from models.tokenization.vocab_map import VocabMap


def align_sample(
    item: AlignItem, *, target: ChatTokenizer, source: ChatTokenizer, vocab_map: VocabMap | None, cfg: AlignmentParams
) -> tuple[SampleSignals, Coverage]:
    """Align one text."""
    shard = align_shard([item], target=target, sources={item.source: source}, maps={item.source: vocab_map}, cfg=cfg)
    return shard.samples[0], shard.coverage[item.source]


def map_topk(
    topk_ids: npt.NDArray[Any], topk_logprobs: npt.NDArray[Any], tail: npt.NDArray[Any], vocab_map: VocabMap | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """Rename a source's top-k to the target's tokens, keeping as many."""
    return merge_duplicates(map_rows(topk_ids, topk_logprobs, tail, vocab_map), top_k=topk_ids.shape[1])
