"""The dialogue agent: retrieve entities for a context, attach meta knowledge, generate the response."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import live_context
from models.dialogue.data.records import Turn
from models.dialogue.generators.base import Answer, DialogueItem, Responder, RetrievedEntity
from models.dialogue.retrieval.embedding import embed_contexts
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex, score_parts
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge


@dataclass(frozen=True, slots=True)
class AgentReply:
    """A response with the entities it is based on.

    Attributes:
        text: The response.
        entities: Retrieved entities, best first; `meta.score` is the retrieval score.
        seconds: Wall-clock seconds of `retrieve` and `generate`.
        answer: The generator's answer with its token counts.
    """

    text: str
    entities: tuple[RetrievedEntity, ...]
    seconds: Mapping[str, float]
    answer: Answer

    @property
    def scores(self) -> tuple[float, ...]:
        """Retrieval scores, best first."""
        return tuple(e.meta.score for e in self.entities)


@dataclass(frozen=True, slots=True)
class DialogueAgent:
    """A retriever with its index, and a generator that reads what was retrieved.

    Attributes:
        retriever: Encodes contexts.
        index: Over the entities of `kb`, by the same encoder.
        kb: The knowledge base.
        responder: Generates the response.
        meta: Meta knowledge; its edges decide the confidence of an entity.
        num_retrieved: K.
        condensed: Whether turns of a data set retrieve from their dialogue's own rows only.
    """

    retriever: Retriever
    index: SearchIndex
    kb: KnowledgeBase
    responder: Responder
    meta: MetaKnowledge
    num_retrieved: int
    condensed: bool = False
    _values: ValueIndex = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the values that only one entity has, for the co-occurrence of meta knowledge."""
        object.__setattr__(self, "_values", ValueIndex(self.kb))

    def retrieve(
        self, contexts: Sequence[Sequence[str]], *, within: Sequence[Sequence[int]] | None = None
    ) -> list[tuple[RetrievedEntity, ...]]:
        """Return the best entities of each context, best first, with their meta knowledge.

        Args:
            contexts: Utterances, oldest first.
            within: KB rows that each context may retrieve from (condensed knowledge bases); None = all.
        """
        if not contexts:
            return []
        q_reps = embed_contexts(self.retriever, contexts)
        hits = self.index.search(q_reps, self.num_retrieved, within=within, contexts=contexts)
        metas = self.meta.annotate(hits, self.kb, contexts, self._values)
        parts = score_parts(self.index, contexts, hits)
        return [
            tuple(
                RetrievedEntity(row, self.kb[row], meta, part)
                for (row, _), meta, part in zip(hits.of(query), metas[query], parts[query], strict=True)
            )
            for query in range(len(contexts))
        ]

    def retrieve_turns(self, turns: Sequence[Turn]) -> list[tuple[RetrievedEntity, ...]]:
        """Retrieve for turns of a data set; in the condensed setting from each dialogue's own rows (there may be none)."""
        within = [self.kb.rows(t.kb) for t in turns] if self.condensed else None
        return self.retrieve([t.context for t in turns], within=within)

    def items(self, turns: Sequence[Turn]) -> list[DialogueItem]:
        """Return the turns as a generator may see them: retrieved entities, no reference."""
        return [DialogueItem.of(t, e) for t, e in zip(turns, self.retrieve_turns(turns), strict=True)]

    def reply(
        self,
        context: Sequence[str | Mapping[str, Any]],
        *,
        within: Sequence[int] | None = None,
        domain: str = "",
        dynamic: Mapping[str, tuple[str, ...]] | None = None,
    ) -> AgentReply:
        """Answer the user's last utterance.

        Args:
            context: Utterances, oldest first, the user's last; texts by turns, or messages with `role` and `content`.
            within: KB rows to retrieve from; None = all.
            domain: Domain, where known (for demonstrations).
            dynamic: Results of a real-time query.

        Raises:
            DataError: The context does not end with the user.
        """
        start = time.perf_counter()
        said = live_context(context)
        entities = self.retrieve([said], within=None if within is None else [within])[0]
        middle = time.perf_counter()
        answer = self.responder.respond([DialogueItem("", domain, said, entities, dynamic or {})])[0]
        seconds = {"retrieve": middle - start, "generate": time.perf_counter() - middle}
        return AgentReply(answer.text, entities, seconds, answer)
