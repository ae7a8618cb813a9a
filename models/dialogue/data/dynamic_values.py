"""No value before its time: what a real-time query gives is known from the turn on whose answer issues it.

Such are the reference of a booking (`ref`) and how many entities fit (`choice`). Published data write them into the records of a
dialogue from its first turn on: a system that prints nothing else then scores in Entity F1, and one that reads them learns to.
Here a turn has what has been issued by then. The booking call returns a reference just before the system says it; how many fit is
computed from the knowledge base where the data tell what was asked for, and else known once an answer has said it: the words for
it (`several`) are that answer's own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby

from models.corpus.text import contains_words, without_blanks
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.readers.base import DialogueSource, KnownFrom
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.requests.reader import RequestReader
from models.dialogue.data.value_finder import matchable
from models.errors import DataError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

FITTING = "fitting"
"""How many entities satisfy the request that was read from the user's words (`choice` is what the data set says)."""
Pair = tuple[str, str]
"""Name and value, such as `ref` and `ab12cd34`."""


def restrict_dynamic_values(source: DialogueSource, cfg: DialoguesParams) -> DialogueSource:
    """Return the data set with dynamic values as `dialogues.dynamic_values` says.

    `published` leaves everything as the data set has it. `issued` takes `dialogues.dynamic_attributes` off the entities (no
    encoder, prompt, index or meta knowledge sees them), and gives a turn what is known when it must be answered.

    Raises:
        DataError: A dynamic attribute is none of the knowledge base, or an entity's name.
    """
    if cfg.dynamic_values == "published":
        return source
    entities, taken = _without(source.entities, cfg.dynamic_attributes)

    def stream(split: Split) -> Iterator[Turn]:
        return issued(source.turns(split), taken, known_from=source.known_from)

    return replace(source, entities=entities, stream=stream)


def issued(
    turns: Iterable[Turn], of_entity: Mapping[str, Mapping[str, str]], *, known_from: Mapping[str, KnownFrom] | None = None
) -> Iterator[Turn]:
    """Yield the turns with the dynamic values that are known when they must be answered.

    The first answer that has a value among its gold values issues it; where none has, the first that says it (as whole words).
    What the data set offers to single turns counts for these; a value of an entity, from its issue to the end of the dialogue.

    Args:
        turns: The turns of a split, those of a dialogue together and in order; one dialogue is held at a time.
        of_entity: Dynamic values by entity id; a turn's answer can issue those of its gold entities and own knowledge base.
        known_from: `DialogueSource.known_from`.
    """
    for _, group in groupby(turns, key=lambda turn: turn.dialogue):
        dialogue = list(group)
        offers = [_offered(turn, of_entity) for turn in dialogue]
        since = _since(dialogue, offers, known_from or {})
        for place, turn in enumerate(dialogue):
            pairs = dict.fromkeys([*_pairs(turn), *(pair for offer in offers[: place + 1] for pair in offer)])
            known: dict[str, tuple[str, ...]] = {}
            for name, value in (pair for pair in pairs if since.get(pair, place + 1) <= place):
                known[name] = (*known.get(name, ()), value)
            yield replace(turn, dynamic=known)


def with_counts(turns: Iterable[Turn], reader: RequestReader, kb: KnowledgeBase) -> Iterator[Turn]:
    """Yield the turns with a request with the number of entities that satisfy it, as the dynamic value `fitting`.

    It is computed from what the user has said by then, as for a live dialogue: no annotation is read, not even the domain. In a
    dialogue with a knowledge base of its own it counts in that.
    """
    for turn in turns:
        request = reader.read(turn.context)
        if not request:
            yield turn
            continue
        rows = reader.rows(request, within=kb.rows(turn.kb) if turn.kb else None)
        yield replace(turn, dynamic={**turn.dynamic, FITTING: (str(len(rows)),)})


def values_given(turn: Turn) -> Iterator[str]:
    """Yield the dynamic values that a response can repeat without any retrieval; a count of entities may equal a value of one."""
    return (value for name, values in turn.dynamic.items() if name != FITTING for value in values)


def _pairs(turn: Turn) -> list[Pair]:
    return [(name, value) for name, values in turn.dynamic.items() for value in values]


def _offered(turn: Turn, of_entity: Mapping[str, Mapping[str, str]]) -> list[Pair]:
    ids = dict.fromkeys((*turn.gold_entities, *turn.kb))
    return [pair for id in ids for pair in of_entity.get(id, {}).items()]


def _since(dialogue: Sequence[Turn], offers: Sequence[Sequence[Pair]], known_from: Mapping[str, KnownFrom]) -> dict[Pair, int]:
    """Return the place in the dialogue from which on a value is known; values that never are, are left out."""
    since = _issues(dialogue, offers)
    for pair in since:
        since[pair] += known_from.get(pair[0]) == "later"
    computed = {pair: 0 for turn in dialogue for pair in _pairs(turn) if known_from.get(pair[0]) == "query"}
    return since | computed


def _issues(dialogue: Sequence[Turn], offers: Sequence[Sequence[Pair]]) -> dict[Pair, int]:
    """Return the place in the dialogue of the answer that issues a value; values that no answer has are left out."""
    by_gold: dict[Pair, int] = {}
    by_text: dict[Pair, int] = {}
    words = cache(matchable)
    for place, (turn, offer) in enumerate(zip(dialogue, offers, strict=True)):
        pairs = {*offer, *_pairs(turn)}
        # The context also tells what answers said that are no turns here (left out as malformed).
        answers = [*turn.context[1::2], *([turn.response] if turn.kind == "response" else [])] if pairs else []
        gold = set(map(without_blanks, turn.gold_values)) - {""}
        for pair in pairs:
            if without_blanks(pair[1]) in gold:
                by_gold.setdefault(pair, place)
            if any(contains_words(words(text), words(pair[1])) for text in answers):
                by_text.setdefault(pair, place)
    return by_text | by_gold


def _without(entities: Sequence[Entity], names: Sequence[str]) -> tuple[Sequence[Entity], dict[str, dict[str, str]]]:
    """Return the entities without some attributes, and what they had there."""
    if not names:
        return entities, {}
    known = {name for entity in entities for name in entity.attributes}
    rule = "must be an attribute of the knowledge base, but not the first one, which is the name"
    firsts = {next(iter(entity.attributes), "") for entity in entities}
    hint = f"Attributes: {', '.join(sorted(known - firsts))}."
    bad = [Problem("`dialogues.dynamic_attributes`", rule, repr(n), hint) for n in names if n not in known or n in firsts]
    if bad:
        raise DataError("The knowledge base has no such dynamic attribute", bad)
    taken = {entity.id: {n: entity.attributes[n] for n in names if n in entity.attributes} for entity in entities}
    plain = [replace(e, attributes={n: v for n, v in e.attributes.items() if n not in names}) for e in entities]
    return plain, {id: values for id, values in taken.items() if values}
