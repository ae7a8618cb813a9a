"""Meta knowledge: what the retriever knows about an entity, put into words for the generator (§3.4, Tables 10–12 of MK-TOD)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.corpus.text import normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, seen_in_context
from models.dialogue.retrieval.ranking import Hits
from models.errors import RetrievalError
from models.params.dialogue import MetaKind, MetaKnowledgeParams, Variant

Confidence = Literal["high", "middle", "low"]
NUM_RANKS = 5

# Table 10: prefix tokens, for T5 and for chat models alike. "1th", "2th" … are printed so.
PREFIX_ORDER = ("<1th-entity>", "<2th-entity>", "<3th-entity>", "<4th-entity>", "<5th-entity>")
PREFIX_OTHER = "<other-entity>"
PREFIX_CONFIDENCE: dict[Confidence, str] = {
    "high": "<high-confidence>",
    "middle": "<mid-confidence>",
    "low": "<low-confidence>",
}
PREFIX_SEEN, PREFIX_NEW = "<old-entity>", "<new-entity>"
PREFIX_TOKENS = (*PREFIX_ORDER, PREFIX_OTHER, *PREFIX_CONFIDENCE.values(), PREFIX_SEEN, PREFIX_NEW)

# Table 11: prompts for T5, worded to be of equal length in tokens. What is beyond rank 5 shares the negative entity's.
PROMPT_ORDER = (
    "The top-1 recalled:",
    "The top-2 recalled:",
    "The top-3 recalled:",
    "The top-4 recalled:",
    "The top-5 recalled:",
)
PROMPT_OTHER = "The negative entity recalled:"
PROMPT_CONFIDENCE: dict[Confidence, str] = {
    "high": "with high confidence:",
    "middle": "with middle confidence:",
    "low": "with low confidence:",
}
PROMPT_SEEN, PROMPT_NEW = "existed in history:", "newly recalled:"

# Table 12: sentences for chat models.
CHAT_ORDER = (
    "this entity is top-1 important.",
    "this entity is top-2 important.",
    "this entity is top-3 important.",
    "this entity is top-4 important.",
    "this entity is top-5 important.",
)
CHAT_OTHER = "this entity is not important."
CHAT_CONFIDENCE: dict[Confidence, str] = {
    "high": "It has high possibility that",
    "middle": "It has medium possibility that",
    "low": "It has low possibility that",
}
CHAT_SEEN, CHAT_NEW = "This entity has appeared before.", "This is a new entity."

# Ours: Table 12's confidence is half a sentence; without the order it ends so.
CHAT_UNRANKED = "this entity is important."

# What a chat model is told of the prefix tokens (App. B.1, in our words), a sentence for each kind.
EXPLAIN_INTRODUCTION = "Each entity below starts with tags."
EXPLAIN_SEEN = (
    f"{PREFIX_SEEN} marks an entity that the dialogue has already mentioned, {PREFIX_NEW} one that it has not mentioned yet."
)
EXPLAIN_CONFIDENCE = (
    f"{PREFIX_CONFIDENCE['high']}, {PREFIX_CONFIDENCE['middle']} and {PREFIX_CONFIDENCE['low']} say how likely it is that the "
    "entity is the one to speak of."
)
EXPLAIN_ORDER = (
    f"{PREFIX_ORDER[0]} marks the most important entity, {PREFIX_ORDER[1]} the second most important one, and so on; an entity "
    f"with {PREFIX_OTHER} is not important."
)


MetaStyle = Literal["none", "prefix", "prompt", "chat_prefix", "chat_prompt"]
Edges = tuple[float, float]

_STYLES: dict[Variant, MetaStyle] = {"none": "none", "prefix": "prefix", "prompt": "prompt", "contrastive": "none"}
# The order in which App. B.1 and Table 12 speak to chat models; the sentence of Table 12 allows no other.
_CHAT_KINDS: tuple[MetaKind, ...] = ("cooccurrence", "confidence", "order")


@dataclass(frozen=True, slots=True)
class EntityMeta:
    """What is known about one retrieved entity.

    Attributes:
        rank: Place in the retrieval order, from 1 on.
        score: Retrieval score (cosine).
        seen: Whether the dialogue has mentioned the entity.
        negative: The negative entity (§3.5): always told as other, low confidence, new.
    """

    rank: int
    score: float
    seen: bool
    negative: bool = False


def style_of(variant: Variant) -> MetaStyle:
    """Return how a variant of MK-TOD writes meta knowledge; with contrastive learning no text is added (§3.4.3)."""
    return _STYLES[variant]


def calibrate_edges(scores: Iterable[float]) -> Edges:
    """Return the terciles of retrieval scores: the edges that make low, middle and high equally frequent.

    Raises:
        RetrievalError: There are fewer than three finite scores.
    """
    values = np.asarray(list(scores), dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 3:
        raise RetrievalError(
            f"Confidence edges need at least 3 retrieval scores, but there are {len(values)}. "
            "Give `dialogue.meta_knowledge.edges` as numbers, or more validation turns."
        )
    low, high = (float(q) for q in np.quantile(values, (1 / 3, 2 / 3)))
    return low, max(high, float(np.nextafter(low, np.inf)))


class MetaKnowledge:
    """Writes meta knowledge in one style.

    Attributes:
        style: `prefix` (Table 10) or `prompt` (Table 11) before the entities of T5; `chat_prefix` (Table 10, explained once
            by `chat_explanation`) or `chat_prompt` (Table 12) for chat models; `none`: nothing.
        kinds: Kinds written, in the order of the params; chat styles have an order of their own.
        edges: Scores from which confidence is middle, and high.
    """

    def __init__(self, cfg: MetaKnowledgeParams, *, style: MetaStyle, edges: Edges | None = None) -> None:
        """Choose style and edges.

        Args:
            cfg: Kinds and edges.
            style: See the class.
            edges: Calibrated edges; None takes those of the params.

        Raises:
            RetrievalError: The edges are `calibrated` by the params, but none are given.
        """
        self.style: MetaStyle = style
        chat = style in ("chat_prefix", "chat_prompt")
        self.kinds = tuple(k for k in _CHAT_KINDS if k in cfg.kinds) if chat else cfg.kinds
        if edges is None:
            if cfg.edges == "calibrated":
                raise RetrievalError(
                    "`dialogue.meta_knowledge.edges` is `calibrated`, but no edges were measured. "
                    "Run the warm start and calibrate on the validation split, or give two numbers."
                )
            edges = cfg.edges
        self.edges: Edges = edges

    def confidence(self, score: float) -> Confidence:
        """Return the bin of a score; an edge belongs to the upper bin, as in Tables 10–12."""
        low, high = self.edges
        if score >= high:
            return "high"
        return "middle" if score >= low else "low"

    def text(self, meta: EntityMeta) -> str:
        """Return what is written before an entity; empty for style `none`."""
        if self.style == "none":
            return ""
        parts = {kind: self._part(kind, meta) for kind in self.kinds}
        if self.style == "chat_prompt":
            return _sentence(parts)
        return " ".join(parts.values())

    def special_tokens(self) -> tuple[str, ...]:
        """Return the tokens that the generator's tokenizer must know as wholes: all of Table 10 for style `prefix`."""
        return PREFIX_TOKENS if self.style == "prefix" else ()

    def chat_explanation(self) -> str:
        """Return what a chat model is told about the prefix tokens (App. B.1); empty for other styles."""
        if self.style != "chat_prefix":
            return ""
        said: dict[MetaKind, str] = {
            "cooccurrence": EXPLAIN_SEEN,
            "confidence": EXPLAIN_CONFIDENCE,
            "order": EXPLAIN_ORDER,
        }
        return " ".join([EXPLAIN_INTRODUCTION, *(said[kind] for kind in self.kinds)])

    def annotate(
        self, hits: Hits, kb: KnowledgeBase, contexts: Sequence[Sequence[str]], value_index: ValueIndex
    ) -> list[list[EntityMeta]]:
        """Return the meta knowledge of every hit, by query.

        Args:
            hits: What the retriever found.
            kb: The knowledge base that the rows point into.
            contexts: Utterances before the turn of each query; nothing of the response is read.
            value_index: Of the same knowledge base; knows the values that only one entity has.
        """
        annotated = []
        for query, context in enumerate(contexts):
            text = normalise(" ".join(context))
            annotated.append(
                [
                    EntityMeta(rank, score, seen_in_context(kb[row], text, value_index))
                    for rank, (row, score) in enumerate(hits.of(query), start=1)
                ]
            )
        return annotated

    def _part(self, kind: MetaKind, meta: EntityMeta) -> str:
        if kind == "order":
            ranks, other = _ORDER[self.style]
            return ranks[meta.rank - 1] if meta.rank <= NUM_RANKS and not meta.negative else other
        if kind == "confidence":
            return _CONFIDENCE[self.style]["low" if meta.negative else self.confidence(meta.score)]
        seen, new = _SEEN[self.style]
        return seen if meta.seen and not meta.negative else new


_PREFIX_ORDER = (PREFIX_ORDER, PREFIX_OTHER)
_PREFIX_SEEN = (PREFIX_SEEN, PREFIX_NEW)
_ORDER: dict[MetaStyle, tuple[tuple[str, ...], str]] = {
    "prefix": _PREFIX_ORDER,
    "chat_prefix": _PREFIX_ORDER,
    "prompt": (PROMPT_ORDER, PROMPT_OTHER),
    "chat_prompt": (CHAT_ORDER, CHAT_OTHER),
}
_CONFIDENCE: dict[MetaStyle, dict[Confidence, str]] = {
    "prefix": PREFIX_CONFIDENCE,
    "chat_prefix": PREFIX_CONFIDENCE,
    "prompt": PROMPT_CONFIDENCE,
    "chat_prompt": CHAT_CONFIDENCE,
}
_SEEN: dict[MetaStyle, tuple[str, str]] = {
    "prefix": _PREFIX_SEEN,
    "chat_prefix": _PREFIX_SEEN,
    "prompt": (PROMPT_SEEN, PROMPT_NEW),
    "chat_prompt": (CHAT_SEEN, CHAT_NEW),
}


def _sentence(parts: dict[MetaKind, str]) -> str:
    """Join the parts of Table 12, whose confidence is half a sentence and ends with the order."""
    seen, confidence, order = (parts.get(kind, "") for kind in _CHAT_KINDS)
    if confidence and not order:
        order = CHAT_UNRANKED
    if order and not confidence:
        order = order[0].upper() + order[1:]
    return " ".join(part for part in (seen, confidence, order) if part)
