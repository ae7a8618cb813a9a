"""Interface of response generators: inputs known at the time of the response, answers, and the responder protocol."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Protocol

from models.dialogue.data.records import Entity, Turn
from models.dialogue.retrieval.meta_knowledge import EntityMeta
from models.schema import Finish

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RetrievedEntity:
    """An entity with its KB row and what retrieval knows of it.

    Attributes:
        row: KB row.
        entity: The entity.
        meta: Rank, score, whether the dialogue has mentioned it.
        parts: What a hybrid score is made of: `dense`, `name`, `value`, `bm25`; empty where the score is the cosine.
    """

    row: int
    entity: Entity
    meta: EntityMeta
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DialogueItem:
    """A turn to be answered. It has no place for the reference, gold values or negative entities: inference never sees them.

    Attributes:
        id: The turn's id, `<dialogue>#<turn>`.
        domain: Domain of the dialogue; "" where unknown.
        context: Utterances so far, oldest first, the user's first and last.
        entities: Retrieved entities, best first.
        dynamic: Results of a real-time query (`ref`, `choice`).
    """

    id: str
    domain: str
    context: tuple[str, ...]
    entities: tuple[RetrievedEntity, ...]
    dynamic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Turn, entities: Iterable[RetrievedEntity]) -> "DialogueItem":
        """Take from a turn what the system may know, and what was retrieved for it."""
        return cls(turn.id, turn.domain, turn.context, tuple(entities), turn.dynamic)

    @property
    def dialogue(self) -> str:
        """Id of the dialogue ("" where the id names none)."""
        return self.id.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class PromptCuts:
    """Counts of parts dropped to fit prompts, in the order in which they are dropped.

    Attributes:
        demonstrations: Demonstrations (least similar first).
        entities: Retrieved entities (lowest rank first).
        utterances: Utterances (oldest first).
        instructions: Prompts without their instructions.
        words: Words of the last utterance (first ones).
    """

    demonstrations: int = 0
    entities: int = 0
    utterances: int = 0
    instructions: int = 0
    words: int = 0

    def __add__(self, other: "PromptCuts") -> "PromptCuts":
        return PromptCuts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __bool__(self) -> bool:
        return any(astuple(self))


NO_CUTS = PromptCuts()


@dataclass(frozen=True, slots=True)
class Answer:
    """A generator's response.

    Attributes:
        text: The response.
        num_prompt_tokens: Tokens read, as the generator (or its server) counts.
        num_tokens: Tokens written, without the end token.
        finish: `eos`, or `length` where the longest response ended it, or `content_filter`.
        cuts: Parts that did not fit into the prompt.
        problem: Why an endpoint gave no answer; "" where it gave one.
    """

    text: str
    num_prompt_tokens: int
    num_tokens: int
    finish: Finish
    cuts: PromptCuts = NO_CUTS
    problem: str = ""


class Responder(Protocol):
    """Anything that answers dialogue turns from retrieved entities."""

    def respond(self, items: Sequence[DialogueItem], *, on_progress: Progress | None = None) -> list[Answer]:
        """Return one answer for each item, in order; `on_progress` is called with the number of finished answers."""
        ...


def total_cuts(answers: Iterable[Answer]) -> PromptCuts:
    """Sum what was left out of all prompts."""
    return sum((a.cuts for a in answers), NO_CUTS)
