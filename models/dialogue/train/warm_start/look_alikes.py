"""Hard negatives made up for a turn: entities with all the positive has but one value, and that value the context names.

Few entities of a knowledge base differ in so little, so an encoder can find the positive by its food alone, never mind its name.
Among thousands of entities it then loses what the dialogue has already named. Every value of a look-alike is some entity's, so
that neither words nor names of its own give it away.
"""

from collections.abc import Sequence

import numpy as np

from models.corpus.text import contains_words
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.data.value_finder import matchable
from models.params.retriever import RetrieverParams

_LOOK_ALIKES = 4
_ARTICLE = "the "
# Values of an attribute that are looked for in a context; an attribute with more of them is hardly asked for.
_COMPARED = 1_000
_DRAWS = 16


class LookAlikes:
    """Makes the look-alikes of a step: a function of the seed, the step and its turns, so that a resumed run makes the same."""

    def __init__(self, kb: KnowledgeBase, cfg: RetrieverParams) -> None:
        """Gather the values of the attributes that the encoder reads, by domain."""
        self._kb, self._cfg = kb, cfg
        pools: dict[tuple[str, str], dict[str, str]] = {}
        for entity in kb.entities:
            for name in self._read(entity):
                value = entity.attributes[name]
                pools.setdefault((entity.domain, name), {})[value] = matchable(value)
        self._pools = {key: sorted(values.items()) for key, values in pools.items()}

    def at(self, step: int, positives: Sequence[int], contexts: Sequence[Sequence[str]]) -> list[list[Entity]]:
        """Return the look-alikes of each turn: up to `look_alikes`, none where its context tells nothing of its positive.

        Args:
            step: The step, counted from 0.
            positives: KB row of each turn's positive.
            contexts: Utterances of each turn.
        """
        rng = np.random.default_rng([self._cfg.warm_start.seed, _LOOK_ALIKES, step])
        return [self._of(self._kb[row], context, rng) for row, context in zip(positives, contexts, strict=True)]

    def _of(self, entity: Entity, context: Sequence[str], rng: np.random.Generator) -> list[Entity]:
        text = matchable(" ".join(context))
        told = [name for name in self._read(entity) if self._is_told(entity, name, text)]
        made = []
        for number in range(self._cfg.warm_start.look_alikes if told else 0):
            name = told[int(rng.integers(len(told)))]
            if (value := self._other(entity, name, text, rng)) is not None:
                made.append(Entity(f"look-alike-{number}", entity.domain, {**entity.attributes, name: value}))
        return made

    def _read(self, entity: Entity) -> list[str]:
        """Return the attributes that the encoder reads, the name first."""
        first = next(iter(entity.attributes), "")
        wanted = entity.attributes if self._cfg.attributes is None else self._cfg.attributes
        return list(dict.fromkeys(name for name in (first, *wanted) if name in entity.attributes))

    def _is_told(self, entity: Entity, attribute: str, text: str) -> bool:
        """Whether the context has the entity's value, and (names apart, which are compared) no other one of the attribute."""
        own, pool = entity.attributes[attribute], self._pools[entity.domain, attribute]
        if _is_name(entity, attribute):
            return _told(text, matchable(own), short=True)
        return _told(text, matchable(own)) and not any(_told(text, words) for value, words in pool[:_COMPARED] if value != own)

    def _other(self, entity: Entity, attribute: str, text: str, rng: np.random.Generator) -> str | None:
        """Draw a value that would be wrong instead; None if a few draws give none: the context may have all of a small pool."""
        pool = self._pools[entity.domain, attribute]
        for _ in range(_DRAWS):
            value, words = pool[int(rng.integers(len(pool)))]
            if value != entity.attributes[attribute] and not _told(text, words, short=_is_name(entity, attribute)):
                return value
        return None


def _is_name(entity: Entity, attribute: str) -> bool:
    return attribute == next(iter(entity.attributes))


def _told(text: str, words: str, *, short: bool = False) -> bool:
    """Whether a text has a value as whole words; a name also without its leading "the"."""
    return contains_words(text, words) or (short and contains_words(text, words.removeprefix(_ARTICLE)))
