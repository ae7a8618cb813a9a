"""Data sets whose entities no model has seen: renewed names, addresses, telephone numbers and postcodes, and distractors.

A renewed data set is for evaluating a retriever and generator that were trained on the original one: what they learnt about
single entities is worth nothing there, what they learnt about reading a knowledge base is. The knowledge base and all splits are
renewed alike, so that the set is consistent in itself; entity ids stay, and with them which entities a response speaks of.
Training on it is possible but measures nothing new.

Kinds of things (`hotel`, `road`), areas, prices, food and dynamic values stay: `the lensfield hotel` at `53-57 lensfield road`
becomes `the brovim hotel` at `71-75 brovim road`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from models.data.dialogue import Entity, Turn
from models.data.distractors import distractors
from models.data.renew_forms import words_of
from models.data.renew_text import TextRenewal
from models.data.renew_words import Inventor
from models.data.text import contains_words, normalise
from models.data.tod_reader import SPLITS, DialogueSource
from models.errors import ParamsError, Problem
from models.params.dialogues import RenewParams
from models.schema import Split


def renew(source: DialogueSource, cfg: RenewParams, *, setting: str) -> DialogueSource:
    """Return the data set with other values (`cfg.values`) and `cfg.distractors` more entities, or as it is.

    The entity list keeps to the data set's own entities, so that scores with and without distractors compare.

    Args:
        source: A data set.
        cfg: What to renew, and the seed: the same one gives the same values.
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
        source = _renewed(source, TextRenewal(source.entities, inventor))
    if cfg.distractors:
        more = distractors(source.entities, cfg.distractors, inventor=inventor, kind=cfg.distractor_kind)
        source = replace(source, entities=[*source.entities, *more])
    return source


@dataclass(frozen=True, slots=True)
class RenewalCounts:
    """How much of a split is renewed.

    Attributes:
        turns: Turns.
        changed: Turns with another context or response.
        responses: Turns with another response.
        words: Words replaced in responses.
        values: Gold values replaced.
        values_said: Gold values replaced that the original response has word by word.
        values_kept: Those of them that the renewed response has; anything less than `values_said` is a fault.
    """

    turns: int = 0
    changed: int = 0
    responses: int = 0
    words: int = 0
    values: int = 0
    values_said: int = 0
    values_kept: int = 0


def renewal_counts(source: DialogueSource, renewed: DialogueSource, split: Split) -> RenewalCounts:
    """Compare a split before and after `renew`."""
    counts = RenewalCounts()
    for old, new in zip(source.turns(split), renewed.turns(split), strict=True):
        pairs = [(a, b) for a, b in zip(old.gold_values, new.gold_values, strict=True) if a != b]
        said = [(a, b) for a, b in pairs if _says(old, a)]
        counts = RenewalCounts(
            turns=counts.turns + 1,
            changed=counts.changed + ((old.context, old.response) != (new.context, new.response)),
            responses=counts.responses + (old.response != new.response),
            words=counts.words + sum(a != b for a, b in zip(words_of(old.response), words_of(new.response), strict=True)),
            values=counts.values + len(pairs),
            values_said=counts.values_said + len(said),
            values_kept=counts.values_kept + sum(_says(new, b) for _, b in said),
        )
    return counts


def _says(turn: Turn, value: str) -> bool:
    return contains_words(normalise(turn.response), normalise(value))


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


def _renewed(source: DialogueSource, renewal: TextRenewal) -> DialogueSource:
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
