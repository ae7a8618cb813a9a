"""Systems that know nothing of the dialogue, or only copy: whatever answers must be better than they are."""

from collections import Counter
from collections.abc import Iterable, Sequence

from models.data.dialogue import Turn
from models.data.knowledge_base import KnowledgeBase
from models.retrieval.entity_text import entity_text
from models.retrieval.hits import Hits


def constant_responses(training: Iterable[Turn], num: int) -> list[str]:
    """Return the most frequent response of training (the first of equally frequent ones), `num` times; else empty."""
    counts = Counter(turn.response for turn in training if turn.kind == "response")
    return [counts.most_common(1)[0][0] if counts else ""] * num


def copied_responses(hits: Hits, num: int, kb: KnowledgeBase, *, attributes: Sequence[str] | None) -> list[str]:
    """Return the best entity of each of `num` queries as text, `name … ; area … ; …`; empty where nothing was retrieved."""
    best = (next(iter(hits.of(query)), None) for query in range(num))
    return ["" if hit is None else entity_text(kb[hit[0]], attributes=attributes) for hit in best]
