"""In-context learning (§4.2 of MK-TOD): chat prompts of instructions, demonstrations, retrieved entities and the dialogue."""

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from models.dialogue.data.records import Entity
from models.dialogue.generators.base import NO_CUTS, Answer, DialogueItem, PromptCuts, RetrievedEntity, total_cuts
from models.dialogue.generators.demonstrations import Demonstration, DemonstrationPool
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.schema import Message

INSTRUCTIONS = (
    "You are the system in a task-oriented dialogue. Answer the user's last utterance with one short utterance. "
    "Take names, addresses, phone numbers and all other values from the entities below, and never make up a value."
)
Count = Callable[[Sequence[Message]], int]
_NEXT_SPEAKER = re.compile(r"\n\s*(?:user|entities|dialogue)\s*:.*", re.IGNORECASE | re.DOTALL)
_OWN_NAME = re.compile(r"^\s*(?:system|assistant)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FittedChat:
    """A chat prompt, its length in tokens, and what was left out of it."""

    messages: tuple[Message, ...]
    num_tokens: int
    cuts: PromptCuts


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Writes the prompt of a turn and fits it into a number of tokens.

    Attributes:
        meta: How meta knowledge is written (styles `chat_prompt`, `chat_prefix` or `none`).
        attributes: Attributes of an entity that are written, in this order; None = all.
        system_role: Whether the model's template knows a system message; else the instructions open the first user message.
    """

    meta: MetaKnowledge
    attributes: Sequence[str] | None = None
    system_role: bool = True

    def fit(self, item: DialogueItem, demonstrations: Sequence[Demonstration], *, count: Count, max_tokens: int) -> FittedChat:
        """Write the longest prompt of at most `max_tokens` tokens, as `count` counts a list of messages.

        Parts that do not fit are dropped in this order: least similar demonstrations, entities from the lowest rank up to
        the second, utterances from the oldest up to the last but one, the instructions, the first entity, the first words of the
        last utterance. At least one word is kept, even if the prompt then exceeds the budget.
        """
        steps = list(_ever_smaller(item, len(demonstrations)))
        place = bisect_left(steps, True, key=lambda c: count(self.messages(item, demonstrations, cuts=c)) <= max_tokens)
        cuts = steps[min(place, len(steps) - 1)]
        messages = self.messages(item, demonstrations, cuts=cuts)
        return FittedChat(messages, count(messages), cuts)

    def messages(
        self, item: DialogueItem, demonstrations: Sequence[Demonstration], *, cuts: PromptCuts = NO_CUTS
    ) -> tuple[Message, ...]:
        """Write the prompt without what `cuts` leaves out."""
        turns: list[Message] = []
        for shown in demonstrations[: len(demonstrations) - cuts.demonstrations]:
            turns.append(Message("user", self._turn(shown.turn.context, shown.entities, shown.turn.dynamic)))
            turns.append(Message("assistant", shown.turn.response))
        entities = item.entities[: len(item.entities) - cuts.entities]
        turns.append(Message("user", self._turn(_latest(item.context, cuts), entities, item.dynamic)))
        return tuple(turns) if cuts.instructions else self._instruct(turns)

    def _instruct(self, turns: list[Message]) -> tuple[Message, ...]:
        text = "\n".join(filter(None, (INSTRUCTIONS, self.meta.chat_explanation())))
        if self.system_role:
            return (Message("system", text), *turns)
        return (replace(turns[0], content=f"{text}\n\n{turns[0].content}"), *turns[1:])

    def _turn(self, context: Sequence[str], entities: Sequence[RetrievedEntity], dynamic: Mapping[str, Sequence[str]]) -> str:
        lines = ["Entities:"] if entities else []
        lines += [" ".join(filter(None, (self.meta.text(e.meta), self._entity(e.entity)))) for e in entities]
        if dynamic:
            lines.append(_line("Query result: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in dynamic.items())))
        lines.append("Dialogue:")
        # The last utterance is the user's, also where the first ones were cut.
        lines += [f"{('System', 'User')[(len(context) - i) % 2]}: {_line(text)}" for i, text in enumerate(context)]
        return "\n".join(lines)

    def _entity(self, entity: Entity) -> str:
        names = list(entity.attributes)
        wanted = names if self.attributes is None else list(dict.fromkeys([*names[:1], *self.attributes]))
        return _line("; ".join(f"{a.replace('_', ' ')}: {entity.attributes[a]}" for a in wanted if a in entity.attributes))


def first_utterance(text: str) -> str:
    """Keep the system's own utterance of what a model wrote: no role label, nothing it wrote for the user, one line."""
    return " ".join(_OWN_NAME.sub("", _NEXT_SPEAKER.sub("", "\n" + text.strip()).strip()).split())


def _line(text: str) -> str:
    """Keep a text on its line: none can open a line of the prompt (`System: …`) by itself."""
    return " ".join(text.split())


def _latest(context: Sequence[str], cuts: PromptCuts) -> list[str]:
    kept = list(context[cuts.utterances :])
    if cuts.words:
        kept[-1] = " ".join(kept[-1].split()[cuts.words :])
    return kept


def _ever_smaller(item: DialogueItem, num_demonstrations: int) -> Iterator[PromptCuts]:
    """Yield what to cut, from nothing to all but the last word: each step leaves a part of the step before it."""
    cuts = NO_CUTS
    yield cuts
    wanted = [
        *({"demonstrations": n} for n in range(1, num_demonstrations + 1)),
        *({"entities": n} for n in range(1, len(item.entities))),
        *({"utterances": n} for n in range(1, len(item.context))),
        {"instructions": 1},
        *([{"entities": len(item.entities)}] if item.entities else []),
        *({"words": n} for n in range(1, len(item.context[-1].split()) if item.context else 0)),
    ]
    for change in wanted:
        cuts = replace(cuts, **change)
        yield cuts


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InContext:
    """Settings shared by generators that use a prompt.

    Attributes:
        prompt: How a turn is written.
        pool: Training turns to choose demonstrations from; None = none are shown.
        demonstrations: Number of demonstrations in a prompt.
        max_prompt_tokens: Longest prompt.
        max_new_tokens: Longest response.
    """

    prompt: ChatPrompt
    pool: DemonstrationPool | None = None
    demonstrations: int = 0
    max_prompt_tokens: int = 2048
    max_new_tokens: int = 64

    def fit(self, items: Sequence[DialogueItem], *, count: Count) -> list[FittedChat]:
        """Write the prompts of turns, each within `max_prompt_tokens` as `count` counts."""
        none: list[tuple[Demonstration, ...]] = [() for _ in items]
        shown = none if self.pool is None else self.pool.pick(items, self.demonstrations)
        return [
            self.prompt.fit(item, demonstrations, count=count, max_tokens=self.max_prompt_tokens)
            for item, demonstrations in zip(items, shown, strict=True)
        ]


def report_cuts(answers: Sequence[Answer], *, model: str) -> None:
    """Log what did not fit into the prompts, if anything."""
    cuts = total_cuts(answers)
    if not cuts:
        return
    shortened = sum(bool(a.cuts) for a in answers)
    _log.warning(
        "%d of %d prompts for %s were shortened: %d demonstrations, %d entities, %d utterances, %d words, the instructions of %d",
        shortened,
        len(answers),
        model,
        cuts.demonstrations,
        cuts.entities,
        cuts.utterances,
        cuts.words,
        cuts.instructions,
    )
