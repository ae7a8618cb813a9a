"""Reader of the embedded town: dialogues and knowledge base generated from a seed, in the form of the published data sets."""

from collections.abc import Iterator
from pathlib import Path

from models.corpus.text import contains_words, normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import pad_with_distractors
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import DialogueSource, plain
from models.dialogue.data.records import Entity, Turn
from models.params.dialogues import DialoguesParams
from models.schema import Split
from models.world.dialogues import SpokenDialogue, dialogue_splits, dialogues
from models.world.town import Entity as Place
from models.world.town import build_world

# Entities of a dialogue's own knowledge base, as in MultiWOZ and CamRest676 (Table 7 of MK-TOD).
CONDENSED_SIZE = 7


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Make the town: its places are the entities, and each turn's entity is known.

    In the condensed setting a dialogue has the entities it speaks of, and others of their type that share most of the values
    that the user looks for.
    """
    world = build_world(cfg.town.seed, num_entities=cfg.town.num_entities)
    kb = KnowledgeBase(_entity(place) for place in world.entities)
    index = ValueIndex(kb)

    def stream(split: Split) -> Iterator[Turn]:
        for dialogue in dialogues(world, dialogue_splits(cfg.town.num_dialogues)[split]):
            own = _condensed(dialogue, index) if cfg.setting == "condensed" else ()
            yield from _turns(dialogue, own)

    values = dict.fromkeys(value for entity in kb.entities for value in entity.attributes.values())
    return DialogueSource(kb.entities, list(values), stream, known_from={"choice": "query"})


def _entity(place: Place) -> Entity:
    return Entity(place.id, place.type, {name: plain(value) for name, value in place.attributes.items()})


def _turns(dialogue: SpokenDialogue, own: tuple[str, ...]) -> Iterator[Turn]:
    context: tuple[str, ...] = ()
    for number, spoken in enumerate(dialogue.turns):
        context = (*context, plain(spoken.user))
        about, response = spoken.about, plain(spoken.response)
        yield Turn(
            id=f"{dialogue.id}#{number}",
            dialogue=dialogue.id,
            turn=number,
            domain=dialogue.goal.type,
            context=context,
            response=response,
            gold_values=tuple(plain(about.attributes[a]) for a in spoken.attributes) if about else (),
            gold_entities=(about.id,) if about else (),
            kb=own,
            dynamic=spoken.dynamic,
            first_mention=about is not None and "name" in spoken.attributes and not any(_mentions(t, about) for t in context),
        )
        context = (*context, response)


def _mentions(text: str, place: Place) -> bool:
    return contains_words(normalise(text), normalise(place.name))


def _condensed(dialogue: SpokenDialogue, index: ValueIndex) -> tuple[str, ...]:
    spoken_of = dict.fromkeys(turn.about.id for turn in dialogue.turns if turn.about)
    first = index.kb.rows(spoken_of)
    like = [" ".join(dialogue.said.values())] if dialogue.said else [" ".join(dialogue.goal.attributes.values())]
    kind = dialogue.goal.type
    rows = pad_with_distractors(first, index, size=CONDENSED_SIZE, like=like, key=dialogue.id, domain=kind)
    return tuple(index.kb[row].id for row in rows)
