"""Distant supervision (MK-TOD, App. D): which entity each training turn most likely speaks of.

The response is read here, in training, and nowhere else: the context encoder never sees it.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive
from models.dialogue.data.records import Turn
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.turns import TokenRows
from models.params.retriever import WarmStartParams

Ints = npt.NDArray[np.int64]
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class WarmExample:
    """A turn with a pseudo positive; a turn that names several entities makes several examples.

    Attributes:
        id: Turn id.
        positive: KB row of the entity it speaks of.
        said: Numbers of the values of the response, this entity's and others'.
        session: KB rows of the turn's own knowledge base (condensed setting); empty = all.
        tokens: The context as the context encoder reads it.
        place: Place of the turn in its split.
    """

    id: str
    positive: int
    said: list[int]
    session: list[int]
    tokens: list[int]
    place: int = 0


class WarmExamples(Sequence[WarmExample]):
    """Examples in flat arrays: four bytes a token.

    Attributes:
        lengths: Tokens of each context, int64[number of examples].
        positives: KB row of each example's entity, int64[number of examples].
    """

    def __init__(self, examples: Iterable[WarmExample]) -> None:
        """Copy the examples into flat arrays."""
        self._ids: list[str] = []
        lengths, positives = array("q"), array("q")

        def rows() -> Iterator[list[int]]:
            for item in examples:
                self._ids.append(item.id)
                lengths.append(len(item.tokens))
                positives.append(item.positive)
                yield [item.place, item.positive, len(item.said), len(item.session), *item.said, *item.session, *item.tokens]

        self._rows = TokenRows(rows())
        self.lengths: Ints = np.array(lengths, dtype=np.int64)
        self.positives: Ints = np.array(positives, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> WarmExample:  # type: ignore[override]
        place, positive, num_said, num_session, *rest = self._rows[number]
        said, rest = rest[:num_said], rest[num_said:]
        return WarmExample(self._ids[number], positive, said, rest[:num_session], rest[num_session:], place)


def warm_examples(
    turns: Iterable[Turn],
    kb: KnowledgeBase,
    *,
    index: ValueIndex,
    retriever: Retriever,
    cfg: WarmStartParams,
    condensed: bool = False,
) -> WarmExamples:
    """Find the positives of the training turns and tokenise their contexts; turns without one are left out.

    Raises:
        DataError: A turn's own knowledge base names an entity that the knowledge base lacks.
    """
    recent = cfg.positive == "recent"
    return WarmExamples(_examples(turns, kb, index=index, retriever=retriever, recent=recent, condensed=condensed))


def find_positives(turn: Turn, index: ValueIndex, *, session: Sequence[int] | None, recent: bool) -> list[int]:
    """Return the entities that a turn speaks of: the pseudo positive, and what else the response names; empty if nothing.

    Args:
        turn: The turn.
        index: Values of the knowledge base.
        session: Rows to choose from; None = all.
        recent: Where the response names nothing, let the latest entity that the context names and that has as much of the
            response take the place of the published choice.
    """
    row = pseudo_positive(turn, index, rows=session)
    if row is None:
        return []
    names = index.names_in(turn.response)
    if len(names) and index.named(np.array([row]), names)[0]:
        rows = index.rows_with(names)
        rows = rows[index.named(rows, names)]
        # A name shared by many (branches of a chain) does not identify one of them.
        others = [int(r) for r in rows if r != row and (session is None or r in session)]
        return [row, *others] if len(others) < len(names) else [row]
    return [_latest_named(turn, index, session=session, fallback=row)] if recent else [row]


def _latest_named(turn: Turn, index: ValueIndex, *, session: Sequence[int] | None, fallback: int) -> int:
    values = index.values_in(turn.response)
    said = values[[bool(index.hits(np.array([fallback]), values[i : i + 1])[0]) for i in range(len(values))]]
    for utterance in reversed(turn.context):
        names = index.names_in(utterance)
        if not len(names):
            continue
        rows = index.rows_with(names)
        rows = rows[index.named(rows, names) & (index.hits(rows, said) == len(said))]
        if session is not None:
            rows = rows[np.isin(rows, session)]
        if len(rows):
            return fallback if fallback in rows else int(rows[0])
    return fallback


def _examples(
    turns: Iterable[Turn], kb: KnowledgeBase, *, index: ValueIndex, retriever: Retriever, recent: bool, condensed: bool
) -> Iterator[WarmExample]:
    stream = enumerate(turns)
    while chunk := list(islice(stream, _CHUNK)):
        found = []
        for place, turn in chunk:
            session = kb.rows(dict.fromkeys(turn.kb)) if condensed else None
            if positives := find_positives(turn, index, session=session, recent=recent):
                found.append((place, turn, session or [], positives))
        tokens = retriever.tokenise_contexts([retriever.context_text(turn.context) for _, turn, _, _ in found])
        for (place, turn, session, positives), ids in zip(found, tokens, strict=True):
            said = index.values_in(turn.response).tolist()
            for row in positives:
                yield WarmExample(turn.id, row, said, session, ids, place)
