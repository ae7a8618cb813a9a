"""Data sets about entities that no model has seen, and distractors, which enlarge a knowledge base.

Names, addresses, telephone numbers and postcodes are replaced everywhere they occur.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from models.dialogue.data.readers.base import SPLITS, DialogueSource
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.unseen.replace import OWN_WORDS, TextReplacer, is_own, kind_of, level_of, words_of
from models.dialogue.data.unseen.words import Inventor
from models.errors import ParamsError, Problem
from models.params.dialogues import DistractorKind, RenewParams
from models.schema import Split

_SIGN = re.compile(r"[^\W_]")


def distractors(
    entities: Sequence[Entity], count: int, *, inventor: Inventor, kind: DistractorKind = "alike"
) -> Iterator[Entity]:
    """Yield `count` new entities with ids `new-<number>`, domains as frequent as among `entities`.

    Each has the attributes of an entity of its domain: name and address get new words, telephone number and postcode new digits
    (no two new entities share any of them), every other attribute gets the value of some entity of the domain. With `apart`,
    such a value is also put into new words, equal values into equal ones (`centre` becomes `brovim` throughout); numbers stay,
    and so do words for the kind of thing.

    Args:
        entities: The knowledge base.
        count: Number of new entities.
        inventor: Draws the words and codes.
        kind: `alike` or `apart`.
    """
    other = _own_words(inventor) if kind == "apart" else str
    values: dict[tuple[str, str], list[str]] = {}
    for entity in entities:
        for key, value in entity.attributes.items():
            values.setdefault((entity.domain, key), []).append(value)
    prefix = "new-"
    while any(entity.id.startswith(prefix) for entity in entities):
        prefix = f"new-{prefix}"
    for number in range(count):
        id = f"{prefix}{number}"
        like = entities[inventor.number(id, len(entities))]
        draw = _Draw(id, inventor)
        attributes = {
            key: draw.value(key, value, values[like.domain, key], is_name=not place, other=other)
            for place, (key, value) in enumerate(like.attributes.items())
        }
        yield Entity(id, like.domain, attributes)


def _own_words(inventor: Inventor) -> Callable[[str], str]:
    """Return a function that puts a property into new words, equal words into equal ones."""

    @cache
    def word(old: str) -> str:
        return inventor.word(old, key=f"property {old}") if old.isalpha() and is_own(old, OWN_WORDS) else old

    return lambda value: " ".join(map(word, words_of(value)))


class _Draw:
    """The attribute values of one new entity."""

    def __init__(self, id: str, inventor: Inventor) -> None:
        self._id = id
        self._inventor = inventor

    def value(self, key: str, like: str, others: Sequence[str], *, is_name: bool, other: Callable[[str], str]) -> str:
        kind = "name" if is_name else kind_of(key, like)
        if kind == "property":
            return other(others[self._inventor.number(f"{self._id} {key}", len(others))])
        if kind == "code":
            return self._code(key, like)
        level = level_of(words_of(like))
        words = (self._word(f"{key} {place}", word) if is_own(word, level) else word for place, word in enumerate(words_of(like)))
        return " ".join(words)

    def _word(self, key: str, like: str) -> str:
        if like.isalpha():
            return self._inventor.word(like, key=f"{self._id} {key}")
        digits = sum(sign.isdigit() for sign in like)
        number = 1 + self._inventor.number(f"{self._id} {key}", 10**digits - 1)
        return f"{number}{''.join(sign for sign in like if not sign.isdigit())}"

    def _code(self, key: str, like: str) -> str:
        signs = iter(self._inventor.code("".join(words_of(like)), key=f"{self._id} {key}"))
        return _SIGN.sub(lambda _: next(signs), like) + "".join(signs)


def renew(source: DialogueSource, cfg: RenewParams, *, setting: str) -> DialogueSource:
    """Return the data set with other values (`cfg.values`) and `cfg.distractors` more entities, or unchanged.

    The entity list stays that of the data set, so that scores with and without distractors are comparable.

    Args:
        source: A data set.
        cfg: What to renew, and the seed, which determines the values.
        setting: `large_scale` or `condensed`.

    Raises:
        ParamsError: Distractors in the condensed setting, where a dialogue has its own few entities.
    """
    if cfg.distractors and setting != "large_scale":
        rule = "must be 0 in the condensed setting, where each dialogue has its own entities"
        hint = "Set `dialogues.setting: large_scale`."
        raise ParamsError("No distractors here", [Problem("`dialogues.renew.distractors`", rule, str(cfg.distractors), hint)])
    if not cfg.values and not cfg.distractors:
        return source
    inventor = Inventor(taken=_vocabulary(source), seed=cfg.seed)
    if cfg.values:
        source = _renewed(source, TextReplacer(source.entities, inventor))
    if cfg.distractors:
        more = distractors(source.entities, cfg.distractors, inventor=inventor, kind=cfg.distractor_kind)
        source = replace(source, entities=[*source.entities, *more])
    return source


def _vocabulary(source: DialogueSource) -> set[str]:
    """Return every word of the knowledge base, the entity list and the dialogues."""
    words = {word for entity in source.entities for value in entity.attributes.values() for word in words_of(value)}
    words.update(word for value in source.values for word in words_of(value))
    for split in SPLITS:
        for turn in source.turns(split):
            # Earlier utterances are those of earlier turns.
            for text in (*turn.context[-2:], turn.response):
                words.update(words_of(text))
    return words


def _renewed(source: DialogueSource, renewal: TextReplacer) -> DialogueSource:
    text = renewal.text

    def entity(old: Entity) -> Entity:
        return replace(old, attributes={key: text(value) for key, value in old.attributes.items()})

    def stream(split: Split) -> Iterator[Turn]:
        for turn in source.turns(split):
            yield replace(
                turn,
                context=tuple(map(text, turn.context)),
                response=text(turn.response),
                gold_values=tuple(map(text, turn.gold_values)),
            )

    values = list(dict.fromkeys(map(text, source.values)))
    return replace(source, entities=[entity(old) for old in source.entities], values=values, stream=stream)
