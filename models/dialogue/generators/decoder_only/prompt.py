"""Prompts of a trained causal LM in segments, each tokenised by itself, so that prompts of a turn share their beginning.

    instructions, dialogue | meta knowledge, entity | … | header of the answer | response

Segments are text inside the model's chat template. What users, systems and entities say is never parsed as a special token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from typing_extensions import override

from models.dialogue.data.records import Entity
from models.dialogue.generators.in_context import INSTRUCTIONS
from models.dialogue.generators.token_budget import BudgetedTokens
from models.dialogue.generators.trainable import Dynamic
from models.dialogue.retrieval.entity_text import SEPARATOR, entity_pairs
from models.errors import SourceError
from models.params.dialogue import GeneratorParams
from models.schema import Message
from models.tokenization.chat import render_prompt, response_lead
from models.tokenization.codec import TokenCodec

_PLACE = "Place of the dialogue"
_DIALOGUE, _ENTITIES = "Dialogue:\n", "Entities:\n"


class EntityTokens(NamedTuple):
    """An entity as a causal LM reads it.

    Attributes:
        meta: Meta knowledge, for prompts with all entities. A prompt with one entity has none: the likelihoods of single entities
            teach the retriever, and a generator that reads the retriever's ranks would confirm them.
        pairs: Attribute–value pairs.
    """

    meta: list[int]
    pairs: list[int]

    @property
    def whole(self) -> list[int]:
        """Meta knowledge and pairs."""
        return [*self.meta, *self.pairs]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the dialogue and the entities.

    Attributes:
        head: Up to the dialogue: the template's beginning, instructions, heading.
        middle: Between dialogue and entities.
        tail: From the entities to the answer: the template's end of the user's turn, its beginning of the answer.
        lead: What the template writes right before an answer, encoded together with it.
    """

    head: list[int]
    middle: list[int]
    tail: list[int]
    lead: str

    @property
    def num_tokens(self) -> int:
        """Tokens of all parts."""
        return len(self.head) + len(self.middle) + len(self.tail)


def frame_of(codec: TokenCodec, template: str, *, instructed: bool) -> Frame:
    """Cut a chat template open where the dialogue goes.

    Args:
        codec: The model's tokenizer.
        template: Its chat template.
        instructed: Whether the prompt begins with instructions; as a system message, where the template takes one.

    Raises:
        SourceError: The template renders no user message.
    """
    user = Message("user", _PLACE)
    told = [[Message("system", INSTRUCTIONS), user], [Message("user", f"{INSTRUCTIONS}\n\n{_PLACE}")]]
    tries = told if instructed else [[user]]
    for number, messages in enumerate(tries, start=1):
        try:
            text = render_prompt(template, messages, **codec.template_variables)
        except SourceError:
            if number == len(tries):
                raise
            continue
        before, found, after = text.partition(_PLACE)
        if found and (not instructed or INSTRUCTIONS in before):
            head, tail = (ids.tolist() for ids in codec.encode_prompts([before, after]))
            opening, middle = codec.encode_ids([_DIALOGUE, _ENTITIES])
            return Frame([*head, *opening], middle, tail, response_lead(template, **codec.template_variables))
    raise SourceError("The chat template of `dialogue.generator.model` must render a user's message, but leaves it out.")


class CausalTokens(BudgetedTokens):
    """Builds the segments of a causal LM's prompts. Meta knowledge is text; no token is added to the model's own.

    Attributes:
        codec: The tokenizer.
        frame: What stands around them.
    """

    def __init__(self, codec: TokenCodec, frame: Frame, cfg: GeneratorParams) -> None:
        self.codec, self.frame = codec, frame
        super().__init__(cfg)
        self._break, self._user, self._system = codec.encode_ids(["\n", "User:", "System:"])

    def entity_ids(self, entity: Entity, meta_text: str) -> EntityTokens:
        """Return an entity, its pairs at most `max_entity_tokens`: whole pairs are dropped from the end, never the name.

        Meta knowledge comes on top of these, so that it changes nothing of what is read of the entity.
        """
        room = self.cfg.max_entity_tokens - len(self._break)
        name, *pairs = entity_pairs(entity, attributes=self.cfg.attributes) or [""]
        ids = self._memo.one(f" {name}")[:room]
        for pair in pairs:
            more = self._memo.one(SEPARATOR + pair)
            if len(ids) + len(more) > room:
                break
            ids = [*ids, *more]
        return EntityTokens(self._memo.one(meta_text) if meta_text else [], [*ids, *self._break])

    def text(self, ids: Sequence[int]) -> str:
        """Decode generated ids up to the end token."""
        stops = self.codec.end.stops
        end = next((place for place, i in enumerate(ids) if i in stops), len(ids))
        return " ".join(self.codec.decode(ids[:end]).split())

    @property
    @override
    def _end_id(self) -> int:
        return self.codec.eos_id

    @override
    def _ids_of_many(self, texts: Sequence[str]) -> list[list[int]]:
        return self.codec.encode_ids(texts) if texts else []

    @override
    def _line(self, text: str) -> str:
        return " " + " ".join(text.lower().split())

    @override
    def _answer(self, text: str) -> str:
        return self.frame.lead + text.lower()

    @override
    def _utterance(self, ids: Sequence[int], *, by_user: bool) -> list[int]:
        return [*(self._user if by_user else self._system), *ids, *self._break]

    @override
    def _record(self, dynamic: Dynamic, *, room: int) -> list[int]:
        ids = super()._record(dynamic, room=room - len(self._break))
        return [*ids, *self._break] if ids else []

    @override
    def _first_value(self, value: str) -> list[int]:
        return self._ids(f"Query result: {value}")
