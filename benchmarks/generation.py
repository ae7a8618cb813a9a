"""Responses of a source against transformers' `generate`: one full batch, and prompts of mixed lengths in the order they come.

The plain side gets its prompts tokenised, padded on the left, and decodes greedily with the same number of new tokens.
"""

import random
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.small_source import small_source, text_of
from benchmarks.timing import cpu_seconds, paired
from models.lm.answers import generate_responses
from models.lm.loading import LoadedSource
from models.lm.prompts import FittedPrompt, PromptItem, fit_prompts, pad_rows
from models.params.teach import ResponseParams
from models.reporting.results import ResultRow
from models.schema import Message, Response

BATCHES = (8, 16, 32)
EVEN_PROMPTS, EVEN_LENGTH, EVEN_NEW = 32, 48, 32
MIXED_PROMPTS, MIXED_BATCH, MIXED_NEW = 48, 12, 16
SHORTEST, LONGEST = 8, 512


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    with small_source() as source:
        return [_full_batch(source), _mixed_lengths(source)]


def _full_batch(source: LoadedSource) -> ResultRow:
    items = _items([EVEN_LENGTH] * EVEN_PROMPTS)
    seconds = {size: cpu_seconds(partial(_plain, source, items, size, EVEN_NEW)) for size in BATCHES}
    best = min(seconds, key=lambda size: seconds[size])
    name = f"response generation, {EVEN_PROMPTS} prompts: tokens/s, ours / best plain batch"
    ratio, times = _against_plain(source, items, batch=best, new=EVEN_NEW)
    others = {f"plain_{size}_s": s for size, s in seconds.items()}
    return ResultRow(name, ratio, "ratio", more={**times, **others, "batch": best, "target": ">= 0.9"})


def _mixed_lengths(source: LoadedSource) -> ResultRow:
    draw = random.Random(0)
    lengths = [round(SHORTEST * (LONGEST / SHORTEST) ** draw.random()) for _ in range(MIXED_PROMPTS)]
    name = f"response generation, prompts of {SHORTEST}–{LONGEST} tokens: tokens/s, bucketed by length / order of arrival"
    ratio, times = _against_plain(source, _items(lengths), batch=MIXED_BATCH, new=MIXED_NEW)
    return ResultRow(name, ratio, "ratio", more={**times, "batch": MIXED_BATCH, "target": ">= 1.5"})


def _against_plain(source: LoadedSource, items: list[PromptItem], *, batch: int, new: int) -> tuple[float, dict[str, float]]:
    """Return the ratio of our tokens/s to those of plain batches in the order given, and what it is made of."""
    cfg = ResponseParams(max_new_tokens=new, batch_size=batch)

    def ours() -> list[Response]:
        return generate_responses(source, items, cfg, overflow="error")

    texts = _plain(source, items, batch, new)
    if [r.text for r in ours()] != texts:
        raise SystemExit("our responses differ from those of plain `generate`")
    slow, fast, ratio = paired(lambda: _plain(source, items, batch, new), ours, rounds=2)
    return ratio, {"ours_s": fast, "peer_s": slow, "new_tokens_per_s": len(items) * new / fast}


def _items(lengths: Sequence[int]) -> list[PromptItem]:
    return [PromptItem(f"p{i}", [Message("user", text_of(length, seed=i))]) for i, length in enumerate(lengths)]


@torch.inference_mode()
def _plain(source: LoadedSource, items: list[PromptItem], size: int, new: int) -> list[str]:
    """Answer in the given order with `generate`, `size` prompts at a time."""
    prompts: list[FittedPrompt] = fit_prompts(source.source, source.codec, items, room=new, overflow="error")
    texts = []
    for start in range(0, len(prompts), size):
        rows = [p.ids for p in prompts[start : start + size]]
        ids, mask = pad_rows(rows, pad_id=source.pad_id, side="left", device=source.device)
        output = source.model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=source.pad_id
        )
        texts += source.codec.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
    return texts
