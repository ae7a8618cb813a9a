"""T5 inputs and outputs: context, entity and response as token ids."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from models.dialogue.data.records import Entity
from models.dialogue.generators.seq2seq.from_scratch import ENTITY, REAL_TIME, SYSTEM, USER
from models.dialogue.generators.token_budget import REMEMBERED, BudgetedTokens
from models.dialogue.retrieval.entity_text import SEPARATOR, entity_pairs
from models.params.dialogue import GeneratorParams


class PassageBuilder(BudgetedTokens):
    """Builds token ids of a T5; the end token of passages is added by the encoder.

    Attributes:
        tokenizer: Knows the marks as wholes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, cfg: GeneratorParams) -> None:
        super().__init__(cfg)
        self.tokenizer = tokenizer
        self._marked = lru_cache(maxsize=REMEMBERED)(self._ids_with_marks)

    def entity_ids(self, entity: Entity, meta_text: str) -> list[int]:
        """Return meta knowledge, mark and attribute–value pairs, at most `max_entity_tokens`.

        Too long an entity drops whole pairs from the end, then meta knowledge; its name stays, cut only if it alone is longer
        than the budget.
        """
        room = self.cfg.max_entity_tokens
        name, *pairs = entity_pairs(entity, attributes=self.cfg.attributes) or [""]
        head = [self._mark(ENTITY), *self._memo.one(name)][:room]
        ids = [*self._marked(meta_text)[: room - len(head)], *head]
        for pair in pairs:
            more = self._memo.one(SEPARATOR + pair)
            if len(ids) + len(more) > room:
                break
            ids += more
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Decode generated ids, without special tokens."""
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return " ".join(str(decoded).split())

    @property
    @override
    def _end_id(self) -> int:
        eos: Any = self.tokenizer.eos_token_id
        return int(eos)

    @override
    def _ids_of_many(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        rows: Any = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [list(row) for row in rows]

    @override
    def _utterance(self, ids: Sequence[int], *, by_user: bool) -> list[int]:
        return [self._mark(USER if by_user else SYSTEM), *ids]

    @override
    def _first_value(self, value: str) -> list[int]:
        return [self._mark(REAL_TIME), *self._ids(value)]

    def _ids_with_marks(self, text: str) -> list[int]:
        """Encode a text of ours, the tokens of meta knowledge as wholes."""
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _mark(self, mark: str) -> int:
        numbers: Any = self.tokenizer.convert_tokens_to_ids([mark])
        return int(numbers[0])
