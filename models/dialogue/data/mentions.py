"""Gold entities of a turn and whether it mentions them first; condensed knowledge bases where a data set publishes none."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from models.dialogue.data.pseudo_positive import Ints, ValueIndex
from models.dialogue.data.records import Turn


def with_mentions(turn: Turn, index: ValueIndex, *, rows: Sequence[int] | None = None) -> Turn:
    """Return the turn with `gold_entities` and `first_mention` found in its texts.

    The gold entities are those that the response names; where several have that name, the ones of them with most values in the
    response, then in the context. A response that names none but holds values speaks of the one entity among those named in the
    context that has most of these values, or else of the one whose own value it holds, such as an address; where two have equally
    many, none is known to be meant. An API query speaks of none.

    Args:
        turn: A turn with context and response.
        index: Values of the knowledge base.
        rows: Rows to choose from (the dialogue's own, where names are not unique in the whole knowledge base); None = all.
    """
    if turn.kind == "api_call":
        return replace(turn, gold_entities=(), first_mention=False)
    names, before = index.names_in(turn.response), index.names_in(*turn.context)
    gold = _named(turn, names, index, rows)
    new = not index.named(gold, before).all()
    if not len(gold):
        gold = _implied(turn, before, index, rows)
    return replace(turn, gold_entities=tuple(index.kb[int(row)].id for row in gold), first_mention=new)


def _named(turn: Turn, names: Ints, index: ValueIndex, rows: Sequence[int] | None) -> Ints:
    chosen = [np.empty(0, dtype=np.int64)]
    for name in names:
        left = _with_name(np.array([name]), index, rows)
        for texts in ((turn.response,), turn.context):
            if len(left) > 1:
                hits = index.hits(left, index.values_in(*texts))
                left = left[hits == hits.max()]
        chosen.append(left)
    return np.sort(np.concatenate(chosen))


def _implied(turn: Turn, before: Ints, index: ValueIndex, rows: Sequence[int] | None) -> Ints:
    said = index.values_in(turn.response)
    known = index.identifying(said)
    some = index.rows_with(known) if rows is None else np.asarray(rows, dtype=np.int64)
    for left in (_with_name(before, index, rows), some[index.hits(some, known) > 0]):
        hits = index.hits(left, said)
        best: Ints = left[hits == hits.max(initial=1)]
        if len(best):
            return best if len(best) == 1 else best[:0]
    return some[:0]


def _with_name(names: Ints, index: ValueIndex, rows: Sequence[int] | None) -> Ints:
    if rows is None:
        return index.rows_called(names)
    some = np.asarray(rows, dtype=np.int64)
    named: Ints = some[index.named(some, names)]
    return named


def pad_with_distractors(
    first: Sequence[int], index: ValueIndex, *, size: int, like: Sequence[str], key: str, domain: str = ""
) -> list[int]:
    """Return `size` rows (fewer where the knowledge base has no more), ascending, so that the order tells nothing.

    Args:
        first: Rows that belong in, most important first; those beyond `size` are cut.
        index: Values of the knowledge base.
        size: Number of rows.
        like: Texts with the values that the other rows should share: those that have most of them come first.
        key: Decides among equals through a hash with the entity's id, so that not the same entities fill up every dialogue.
        domain: The rows that fill up are of this domain; empty = any.
    """
    chosen = list(dict.fromkeys(first))[:size]
    if len(chosen) < size:
        every = np.array([row for row, e in enumerate(index.kb.entities) if domain in ("", e.domain)], dtype=np.int64)
        shared = index.hits(every, index.values_in(*like))
        taken = set(chosen)
        others = [(-int(hits), _mark(key, index.kb[row].id), row) for row, hits in zip(every.tolist(), shared, strict=True)]
        chosen += [row for *_, row in sorted(others) if row not in taken][: size - len(chosen)]
    return sorted(chosen)


def _mark(key: str, id: str) -> bytes:
    return blake2b(f"{key}/{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
