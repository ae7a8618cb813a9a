"""The turns of a split as both models read them, tokenised once: four bytes a token and eight a row."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset
from typing_extensions import override

from models.corpus.text import normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Turn
from models.dialogue.generators.trainable import TokenBuilder
from models.dialogue.retrieval.encoder import Retriever


class TokenRows(Sequence[list[int]]):
    """Rows of token ids in one flat int32 array with offsets."""

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        """Copy the rows into one array."""
        flat, ends = array("i"), array("q", [0])
        for row in rows:
            flat.extend(row)
            ends.append(len(flat))
        self._flat: npt.NDArray[np.int32] = np.frombuffer(flat, dtype=np.int32) if flat else np.empty(0, np.int32)
        self._ends: npt.NDArray[np.int64] = np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> list[int]:  # type: ignore[override]
        if not 0 <= row < len(self):
            raise IndexError(row)
        ids: list[int] = self._flat[self._ends[row] : self._ends[row + 1]].tolist()
        return ids


def in_chunks(items: Sequence[str] | Iterable[str], *, size: int = 4096) -> Iterator[list[str]]:
    """Yield lists of at most `size` items, so that texts are tokenised together but not all at once."""
    chunk: list[str] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


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
        self, turns: Sequence[Turn], kb: KnowledgeBase, *, retriever: Retriever, builder: TokenBuilder[Any], condensed: bool
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
        return len(self.turns)

    @override
    def __getitem__(self, planned: PlannedTurn) -> PlannedTurn:
        """Return the index itself: the collator makes the batch, and needs the step."""
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
