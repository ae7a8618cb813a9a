"""Counts and lengths of a prepared corpus, by streaming over its files."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.data.corpus import read_examples

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def split_stats(path: Path) -> dict[str, Any]:
    """Return rows, those whose response was cut, rows per family, and quantiles of the lengths (characters) of a split."""
    families: Counter[str] = Counter()
    prompts: Counter[int] = Counter()
    responses: Counter[int] = Counter()
    cut = 0
    for example in read_examples(path):
        families[example.family] += 1
        prompts[sum(len(m.content) for m in example.messages)] += 1
        responses[len(example.response)] += 1
        cut += not example.ended
    return {
        "rows": families.total(),
        "cut": cut,
        "families": dict(sorted(families.items())),
        "prompt_chars": length_quantiles(prompts),
        "response_chars": length_quantiles(responses),
    }


def length_quantiles(counts: Mapping[int, int]) -> dict[str, int]:
    """Return exact quantiles (the lowest length that at least that share of the rows does not exceed) and the maximum."""
    total = sum(counts.values())
    if not total:
        return {}
    found: dict[str, int] = {}
    below = 0
    waiting = list(QUANTILES)
    for length in sorted(counts):
        below += counts[length]
        while waiting and below >= waiting[0] * total:
            found[f"p{round(100 * waiting.pop(0)):02d}"] = length
    found["max"] = max(counts)
    return found
