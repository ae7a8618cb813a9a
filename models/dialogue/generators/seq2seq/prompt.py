"""T5 inputs and outputs: context, entity and response as token ids, with a cache of encoded texts."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from models.dialogue.data.records import Entity
from models.dialogue.generators.seq2seq.from_scratch import ENTITY, REAL_TIME, SYSTEM, USER
from models.dialogue.retrieval.entity_text import SEPARATOR, entity_pairs
from models.params.dialogue import GeneratorParams

EncodeMany = Callable[[list[str]], list[list[int]]]


class TokenCache:
    """Remembers the ids of a bounded number of texts. Safe to share between threads."""

    def __init__(self, encode: EncodeMany, *, most: int) -> None:
        """Start empty.

        Args:
            encode: Token ids of each of some texts.
            most: Maximum number of cached texts; the least recently used are evicted first.
        """
        self._encode, self._most = encode, most
        self._kept: OrderedDict[str, list[int]] = OrderedDict()
        self._guard = threading.Lock()

    def one(self, text: str) -> list[int]:
        """Return the token ids of a text, from the cache if present."""
        return self.many([text])[text]

    def many(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Return the ids of texts; all that are not known yet are encoded in one call."""
        with self._guard:
            found = {text: self._kept[text] for text in dict.fromkeys(texts) if text in self._kept}
            for text in found:
                self._kept.move_to_end(text)
        if new := [text for text in dict.fromkeys(texts) if text not in found]:
            made = dict(zip(new, self._encode(new), strict=True))
            found |= made
            with self._guard:
                self._kept |= made
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return found


_REMEMBERED = 50_000
# Turns whose texts are encoded together.
_WINDOW = 2048
Dynamic = Mapping[str, Sequence[str]]


class PassageBuilder:
    """Builds token ids within the length budgets of the params; the end token of passages is added by the encoder.

    Attributes:
        tokenizer: Knows the marks as wholes.
        cfg: Budgets in tokens, and the attributes that are read.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, cfg: GeneratorParams) -> None:
        self.tokenizer = tokenizer
        self.cfg = cfg
        # Entities, meta knowledge and the earlier utterances of a dialogue come again and again; bounded, so that it does not
        # grow with the knowledge base.
        self._memo = TokenCache(self._ids_of_many, most=_REMEMBERED)
        self._marked = lru_cache(maxsize=_REMEMBERED)(self._ids_with_marks)

    def context_ids(self, context: Sequence[str], dynamic: Dynamic | None = None) -> list[int]:
        """Return the ids of a context, at most `max_context_tokens`: the oldest words are dropped.

        Args:
            context: Utterances, oldest first; the last one is the user's, and user and system take turns.
            dynamic: Values of a real-time query; the record at the end keeps its place before any utterance does, up to
                half of the budget, and drops whole values beyond.
        """
        [ids] = self.contexts([(context, dynamic)])
        return ids

    def contexts(self, turns: Sequence[tuple[Sequence[str], Dynamic | None]]) -> Iterator[list[int]]:
        """Yield `context_ids` of (context, dynamic) pairs: the utterances of many turns are encoded together, each once."""
        for start in range(0, len(turns), _WINDOW):
            window = turns[start : start + _WINDOW]
            known = self._memo.many([text.lower() for context, _ in window for text in context])
            for context, dynamic in window:
                yield self._context([known[text.lower()] for text in context], dynamic or {})

    def responses(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield `response_ids` of texts, many of them encoded together."""
        for start in range(0, len(texts), _WINDOW):
            yield from map(self._response, self._ids_of_many([text.lower() for text in texts[start : start + _WINDOW]]))

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

    def response_ids(self, text: str) -> list[int]:
        """Return the ids of a response, the end token last, at most `max_response_tokens`."""
        return self._response(self._ids(text.lower()))

    def text(self, ids: Sequence[int]) -> str:
        """Decode generated ids, without special tokens."""
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return " ".join(str(decoded).split())

    def _context(self, utterances: Sequence[Sequence[int]], dynamic: Dynamic) -> list[int]:
        record = self._record(dynamic, room=self.cfg.max_context_tokens // 2)
        room = self.cfg.max_context_tokens - len(record)
        newest_first: list[list[int]] = []
        while len(newest_first) < len(utterances) and sum(map(len, newest_first)) < room:
            mark = SYSTEM if len(newest_first) % 2 else USER
            newest_first.append([self._mark(mark), *utterances[-1 - len(newest_first)]])
        ids = [i for utterance in reversed(newest_first) for i in utterance]
        return ids[max(0, len(ids) - room) :] + record

    def _response(self, ids: Sequence[int]) -> list[int]:
        eos: Any = self.tokenizer.eos_token_id
        return [*ids[: self.cfg.max_response_tokens - 1], int(eos)]

    def _record(self, dynamic: Dynamic, *, room: int) -> list[int]:
        values = [f"{name.replace('_', ' ')} {value}".lower() for name, given in dynamic.items() for value in given]
        ids: list[int] = []
        for value in values:
            more = self._ids(SEPARATOR + value) if ids else [self._mark(REAL_TIME), *self._ids(value)]
            if len(ids) + len(more) > room:
                break
            ids += more
        return ids

    def _ids(self, text: str) -> list[int]:
        return self._ids_of_many([text])[0]

    def _ids_of_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode text of users, systems and entities, in which nothing is parsed as a mark or special token."""
        if not texts:
            return []
        rows: Any = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [list(row) for row in rows]

    def _ids_with_marks(self, text: str) -> list[int]:
        """Encode a text of ours, the tokens of meta knowledge as wholes."""
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _mark(self, mark: str) -> int:
        numbers: Any = self.tokenizer.convert_tokens_to_ids([mark])
        return int(numbers[0])
