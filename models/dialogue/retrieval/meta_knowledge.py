"""Meta knowledge: what the retriever knows about an entity, put into words for the generator (§3.4, Tables 10–12 of MK-TOD)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from models.corpus.text import normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, seen_in_context
from models.dialogue.retrieval.ranking import Hits
from models.errors import RetrievalError
from models.params.dialogue import MetaKind, MetaKnowledgeParams, Variant

Confidence = Literal["high", "middle", "low"]
MetaStyle = Literal["none", "prefix", "prompt", "chat_prefix", "chat_prompt"]
Edges = tuple[float, float]
NUM_RANKS = 5

_STYLES: dict[Variant, MetaStyle] = {"none": "none", "prefix": "prefix", "prompt": "prompt", "contrastive": "none"}


@dataclass(frozen=True, slots=True)
class EntityMeta:
    """Meta knowledge about one retrieved entity.

    Attributes:
        rank: Place in the retrieval order, from 1 on.
        score: Retrieval score (cosine).
        seen: Whether the dialogue has mentioned the entity.
        negative: The negative entity (§3.5): always described as other, low confidence, new.
    """

    rank: int
    score: float
    seen: bool
    negative: bool = False


class Kind(NamedTuple):
    """A kind of meta knowledge: the value that an entity has, and the words for every value.

    Attributes:
        value: (what is known, edges of confidence) → value.
        negative: Value of the negative entity.
        prefix: Value → special token (Table 10), for T5 and chat models alike.
        prompt: Value → words for T5 (Table 11), which are worded to be of equal length in tokens.
        chat: Value → a sentence for chat models (Table 12).
        explanation: Explanation of the tokens for chat models (App. B.1, in our words).
    """

    value: Callable[[EntityMeta, Edges], str]
    negative: str
    prefix: Mapping[str, str]
    prompt: Mapping[str, str]
    chat: Mapping[str, str]
    explanation: str

    def words(self, style: MetaStyle) -> Mapping[str, str]:
        """Return the words of a style that has some, by value."""
        return {"prompt": self.prompt, "chat_prompt": self.chat}.get(style, self.prefix)


def confidence_of(score: float, edges: Edges) -> Confidence:
    """Return the bin of a retrieval score; an edge belongs to the upper bin, as in Tables 10–12."""
    low, high = edges
    if score >= high:
        return "high"
    return "middle" if score >= low else "low"


_RANKS = [str(rank) for rank in range(1, NUM_RANKS + 1)]
KINDS: Mapping[MetaKind, Kind] = {
    "order": Kind(
        value=lambda meta, _: str(meta.rank) if meta.rank <= NUM_RANKS else "other",
        negative="other",
        # "1th", "2th" … are printed so.
        prefix={rank: f"<{rank}th-entity>" for rank in _RANKS} | {"other": "<other-entity>"},
        # Ranks beyond 5 share the negative entity's prefix.
        prompt={rank: f"The top-{rank} recalled:" for rank in _RANKS} | {"other": "The negative entity recalled:"},
        chat={rank: f"this entity is top-{rank} important." for rank in _RANKS} | {"other": "this entity is not important."},
        explanation="<1th-entity> marks the most important entity, <2th-entity> the second most important one, and so on; an "
        "entity with <other-entity> is not important.",
    ),
    "confidence": Kind(
        value=lambda meta, edges: confidence_of(meta.score, edges),
        negative="low",
        prefix={"high": "<high-confidence>", "middle": "<mid-confidence>", "low": "<low-confidence>"},
        prompt={"high": "with high confidence:", "middle": "with middle confidence:", "low": "with low confidence:"},
        chat={
            "high": "It has high possibility that",
            "middle": "It has medium possibility that",
            "low": "It has low possibility that",
        },
        explanation="<high-confidence>, <mid-confidence> and <low-confidence> say how likely it is that the entity is the one to "
        "speak of.",
    ),
    "cooccurrence": Kind(
        value=lambda meta, _: "seen" if meta.seen else "new",
        negative="new",
        prefix={"seen": "<old-entity>", "new": "<new-entity>"},
        prompt={"seen": "existed in history:", "new": "newly recalled:"},
        chat={"seen": "This entity has appeared before.", "new": "This is a new entity."},
        explanation="<old-entity> marks an entity that the dialogue has already mentioned, <new-entity> one that it has not "
        "mentioned yet.",
    ),
}
# App. B.1 and Table 12 speak to chat models in the reverse order; the sentence of Table 12 allows no other.
_PUBLISHED: tuple[MetaKind, ...] = ("order", "confidence", "cooccurrence")
# Ours: Table 12's confidence is half a sentence; without the order it ends so.
CHAT_UNRANKED = "this entity is important."
EXPLAIN_INTRODUCTION = "Each entity below starts with tags."


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
        kinds: Kinds written, in the order of the params; chat styles have a fixed order.
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
        own = tuple(kind for kind in cfg.kinds if kind not in _PUBLISHED)
        self.kinds = (*(kind for kind in reversed(_PUBLISHED) if kind in cfg.kinds), *own) if chat else cfg.kinds
        if edges is None:
            if cfg.edges == "calibrated":
                raise RetrievalError(
                    "`dialogue.meta_knowledge.edges` is `calibrated`, but no edges were measured. "
                    "Run the warm start and calibrate on the validation split, or give two numbers."
                )
            edges = cfg.edges
        self.edges: Edges = edges

    def confidence(self, score: float) -> Confidence:
        """Return the bin of a score under the own edges."""
        return confidence_of(score, self.edges)

    def text(self, meta: EntityMeta) -> str:
        """Return what is written before an entity; empty for style `none`."""
        if self.style == "none":
            return ""
        parts = {kind: self._part(kind, meta) for kind in self.kinds}
        if self.style == "chat_prompt":
            return _sentence(parts)
        return " ".join(parts.values())

    def special_tokens(self) -> tuple[str, ...]:
        """Return the tokens that the generator's tokenizer must know as wholes, for style `prefix`.

        All of Table 10, whichever kinds are used, then those of further kinds that are used.
        """
        if self.style != "prefix":
            return ()
        known = [kind for kind in KINDS if kind in _PUBLISHED or kind in self.kinds]
        return tuple(token for kind in known for token in KINDS[kind].prefix.values())

    def chat_explanation(self) -> str:
        """Return the explanation of prefix tokens for chat models (App. B.1); empty for other styles."""
        if self.style != "chat_prefix":
            return ""
        return " ".join([EXPLAIN_INTRODUCTION, *(KINDS[kind].explanation for kind in self.kinds)])

    def annotate(
        self, hits: Hits, kb: KnowledgeBase, contexts: Sequence[Sequence[str]], value_index: ValueIndex
    ) -> list[list[EntityMeta]]:
        """Return the meta knowledge of every hit, by query.

        Args:
            hits: Search results of the retriever.
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
        known = KINDS[kind]
        return known.words(self.style)[known.negative if meta.negative else known.value(meta, self.edges)]


def _sentence(parts: dict[MetaKind, str]) -> str:
    """Join the parts of Table 12, whose confidence is half a sentence and ends with the order; further kinds follow."""
    order, confidence, seen = (parts.get(kind, "") for kind in _PUBLISHED)
    own = (text for kind, text in parts.items() if kind not in _PUBLISHED)
    if confidence and not order:
        order = CHAT_UNRANKED
    if order and not confidence:
        order = order[0].upper() + order[1:]
    return " ".join(part for part in (seen, confidence, order, *own) if part)
