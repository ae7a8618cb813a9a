"""The turns of a split as both models read them: tokenised once."""

from collections.abc import Iterator, Sequence

from torch.utils.data import Dataset

from models.data.dialogue import Turn
from models.data.knowledge_base import KnowledgeBase
from models.data.text import normalise
from models.generation.dialogue_prompt import PassageBuilder
from models.retrieval.encoder import Retriever
from models.training.token_rows import TokenRows, in_chunks

PlannedTurn = tuple[int, int, int]
"""(optimiser step from 0, place in the step, index of the turn)."""


class DialogueTurns(Dataset[PlannedTurn]):
    """Turns and their token ids, addressed by index.

    Attributes:
        turns: The turns.
        queries: Contexts for the retriever.
        contexts: Contexts for the generator, with what a real-time query gave.
        responses: References, end token last.
        condensed: Whether each dialogue is retrieved for from its own knowledge base.
    """

    def __init__(
        self, turns: Sequence[Turn], kb: KnowledgeBase, *, retriever: Retriever, builder: PassageBuilder, condensed: bool
    ) -> None:
        """Tokenise.

        Raises:
            DataError: In the condensed setting, a turn names an entity that the knowledge base lacks.
        """
        self.turns = turns
        self.condensed = condensed
        self.queries = TokenRows(_queries(turns, retriever))
        self.contexts = TokenRows(builder.contexts([(turn.context, turn.dynamic) for turn in turns]))
        self.responses = TokenRows(builder.responses([turn.response for turn in turns]))
        self._sessions = TokenRows(kb.rows(dict.fromkeys(turn.kb)) for turn in turns) if condensed else None

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self.turns)

    def __getitem__(self, planned: PlannedTurn) -> PlannedTurn:
        """Return the index itself: batches are made by the collator, which needs to know the step."""
        return planned

    def session(self, turn: int) -> list[int] | None:
        """Return the KB rows that a turn may retrieve; None = all."""
        return None if self._sessions is None else self._sessions[turn]

    def normalised_context(self, turn: int) -> str:
        """Return the context as the co-occurrence test reads it."""
        return normalise(" ".join(self.turns[turn].context))


def _queries(turns: Sequence[Turn], retriever: Retriever) -> Iterator[list[int]]:
    for texts in in_chunks(retriever.context_text(turn.context) for turn in turns):
        yield from retriever.tokenise_contexts(texts)
