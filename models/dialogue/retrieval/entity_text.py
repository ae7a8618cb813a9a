"""Input texts of the encoders: entities and dialogue contexts as plain text."""

from collections.abc import Sequence

from models.corpus.text import normalise
from models.dialogue.data.records import Entity

SEPARATOR = " ; "


def entity_text(
    entity: Entity, *, attributes: Sequence[str] | None = None, domain: bool = False, normalised: bool = False
) -> str:
    """Return `name value ; area value ; …`, attribute–value pairs joined as plain text (§3.2 of MK-TOD).

    Args:
        entity: As in `entity_pairs`.
        attributes: The same.
        domain: Write the entity's domain after the name.
        normalised: Keep letters and digits only (`models.corpus.text`).
    """
    pairs = entity_pairs(entity, attributes=attributes)
    if domain:
        pairs.insert(1, f"domain {entity.domain}")
    return SEPARATOR.join(normalise(pair) if normalised else pair for pair in pairs)


def entity_pairs(entity: Entity, *, attributes: Sequence[str] | None = None) -> list[str]:
    """Return `name value`, `area value`, … one by one: a value may hold the separator itself.

    Args:
        entity: The entity; values that it lacks are left out.
        attributes: Attributes to write, in this order; the name comes first in any case. None = all, in the entity's order.
    """
    values = entity.attributes
    name = next(iter(values), None)
    wanted = values if attributes is None else [a for a in attributes if a in values and a != name]
    order = dict.fromkeys([*([] if name is None else [name]), *wanted])
    return [f"{attribute.replace('_', ' ')} {values[attribute]}" for attribute in order]


def context_text(
    context: Sequence[str], *, max_utterances: int | None = None, role_marks: bool = False, normalised: bool = False
) -> str:
    """Return the utterances as one text, oldest first.

    Args:
        context: Utterances; the last one is the user's, and user and system take turns.
        max_utterances: Latest utterances to keep; None = all.
        role_marks: Write `user` or `system` before each.
        normalised: Keep letters and digits only (`models.corpus.text`).
    """
    latest = context if max_utterances is None else context[-max_utterances:]
    texts = [normalise(text) for text in latest] if normalised else list(latest)
    if role_marks:
        marks = ["system" if (len(texts) - place) % 2 == 0 else "user" for place in range(len(texts))]
        texts = [f"{mark} {text}" for mark, text in zip(marks, texts, strict=True)]
    return SEPARATOR.join(texts)
