"""Statistics of a prepared corpus: counts, length quantiles, and n-gram overlap of held-out prompts with training text."""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.corpus.examples import read_examples
from models.corpus.split import normalise, prompt_digest
from models.schema import Example

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def split_stats(path: Path) -> dict[str, Any]:
    """Return rows, those whose response was cut, rows per family, and quantiles of the lengths (characters) of a split.

    `prompts_only` counts the rows without a ground truth, where there are any.
    """
    families: Counter[str] = Counter()
    prompts: Counter[int] = Counter()
    responses: Counter[int] = Counter()
    cut = alone = 0
    for example in read_examples(path):
        families[example.family] += 1
        prompts[sum(len(m.content) for m in example.messages)] += 1
        if example.response is None:
            alone += 1
        else:
            responses[len(example.response)] += 1
        cut += not example.ended
    return {
        "rows": families.total(),
        "cut": cut,
        **({"prompts_only": alone} if alone else {}),
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


GRAM = 13
# Held-out prompts looked at; a sample keeps memory bounded, chosen by digest and so the same whatever the order.
MOST_PROMPTS = 2_000


def overlap_share(held_out: Path, train: Path) -> dict[str, float | int]:
    """Count held-out prompts that share 13 words in a row with a training row (prompt or response).

    Prompts of fewer than 13 words have no such n-gram and are not counted; the check for equal prompts covers them.

    Returns:
        `checked` prompts of 13 words or more (of at most 2,000 sampled), `overlapping` ones, and their `share`.
    """
    sampled = heapq.nsmallest(MOST_PROMPTS, ((prompt_digest(e.messages, seed=0), _prompt(e)) for e in read_examples(held_out)))
    grams: dict[int, set[int]] = {}
    checked = 0
    for number, (_, prompt) in enumerate(sampled):
        mine = set(_grams(prompt))
        checked += bool(mine)
        for gram in mine:
            grams.setdefault(gram, set()).add(number)
    found: set[int] = set()
    for example in read_examples(train) if grams else ():
        for gram in _grams(f"{_prompt(example)} {example.response or ''}"):
            found |= grams.get(gram, set())
    return {"checked": checked, "overlapping": len(found), "share": round(len(found) / max(checked, 1), 4)}


def _prompt(example: Example) -> str:
    return " ".join(m.content for m in example.messages)


def _grams(text: str) -> Iterator[int]:
    words = normalise(text).split()
    return (hash(tuple(words[i : i + GRAM])) for i in range(len(words) - GRAM + 1))
