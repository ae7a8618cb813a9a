"""In-context learning: from dialogue turns to chat prompts with demonstrations, entities and meta knowledge."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from models.generation.chat_prompt import ChatPrompt, Count, FittedChat
from models.generation.demonstrations import Demonstration, DemonstrationPool
from models.generation.dialogue_item import Answer, DialogueItem, total_cuts

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InContext:
    """What every generator with a prompt needs.

    Attributes:
        prompt: How a turn is written.
        pool: Training turns to choose demonstrations from; None = none are shown.
        demonstrations: Demonstrations in a prompt.
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
