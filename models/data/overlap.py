"""How much of the held-out prompts stands in the training text: the usual 13-gram figure, beside the exact check."""

import heapq
from collections.abc import Iterator
from pathlib import Path

from models.data.corpus import read_examples
from models.data.split import normalise, prompt_digest
from models.schema import Example

GRAM = 13
# Held-out prompts looked at; a sample keeps memory bounded, chosen by digest and so the same whatever the order.
MOST_PROMPTS = 2_000


def overlap_share(held_out: Path, train: Path) -> dict[str, float | int]:
    """Count held-out prompts that share 13 words in a row with a training row (prompt or response).

    Prompts of fewer than 13 words have no such row of words and are not counted; the exact check covers them.

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
        for gram in _grams(f"{_prompt(example)} {example.response}"):
            found |= grams.get(gram, set())
    return {"checked": checked, "overlapping": len(found), "share": round(len(found) / max(checked, 1), 4)}


def _prompt(example: Example) -> str:
    return " ".join(m.content for m in example.messages)


def _grams(text: str) -> Iterator[int]:
    words = normalise(text).split()
    return (hash(tuple(words[i : i + GRAM])) for i in range(len(words) - GRAM + 1))
