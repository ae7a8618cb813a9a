"""Contexts and responses as token ids within the length budgets of the params, with a cache of encoded texts."""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from models.dialogue.generators.trainable import Dynamic
from models.dialogue.retrieval.entity_text import SEPARATOR
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


REMEMBERED = 50_000
# Turns whose texts are encoded together.
_WINDOW = 2048


class BudgetedTokens(ABC):
    """Builds token ids within the length budgets of the params; texts are in lower case, as entities are.

    Attributes:
        cfg: Budgets in tokens, and the attributes that are read.
    """

    def __init__(self, cfg: GeneratorParams) -> None:
        self.cfg = cfg
        # Entities, meta knowledge and the earlier utterances of a dialogue come again and again; bounded, so that it does not
        # grow with the knowledge base.
        self._memo = TokenCache(self._ids_of_many, most=REMEMBERED)

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
            known = self._memo.many([self._line(text) for context, _ in window for text in context])
            for context, dynamic in window:
                yield self._context([known[self._line(text)] for text in context], dynamic or {})

    def responses(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield `response_ids` of texts, many of them encoded together."""
        for start in range(0, len(texts), _WINDOW):
            encoded = self._ids_of_many([self._answer(text) for text in texts[start : start + _WINDOW]])
            yield from map(self._response, encoded)

    def response_ids(self, text: str) -> list[int]:
        """Return the ids of a response, the end token last, at most `max_response_tokens`."""
        return self._response(self._ids(self._answer(text)))

    def _context(self, utterances: Sequence[Sequence[int]], dynamic: Dynamic) -> list[int]:
        record = self._record(dynamic, room=self.cfg.max_context_tokens // 2)
        room = self.cfg.max_context_tokens - len(record)
        newest_first: list[list[int]] = []
        while len(newest_first) < len(utterances) and sum(map(len, newest_first)) < room:
            by_user = len(newest_first) % 2 == 0
            newest_first.append(self._utterance(utterances[-1 - len(newest_first)], by_user=by_user))
        ids = [i for utterance in reversed(newest_first) for i in utterance]
        return ids[max(0, len(ids) - room) :] + record

    def _response(self, ids: Sequence[int]) -> list[int]:
        return [*ids[: self.cfg.max_response_tokens - 1], self._end_id]

    def _record(self, dynamic: Dynamic, *, room: int) -> list[int]:
        values = [f"{name.replace('_', ' ')} {value}".lower() for name, given in dynamic.items() for value in given]
        ids: list[int] = []
        for value in values:
            more = self._ids(SEPARATOR + value) if ids else self._first_value(value)
            if len(ids) + len(more) > room:
                break
            ids += more
        return ids

    def _ids(self, text: str) -> list[int]:
        return self._ids_of_many([text])[0]

    def _line(self, text: str) -> str:
        """Return an utterance as it is encoded."""
        return text.lower()

    def _answer(self, text: str) -> str:
        """Return a response as it is encoded."""
        return text.lower()

    @property
    @abstractmethod
    def _end_id(self) -> int:
        """The token that ends a response."""

    @abstractmethod
    def _ids_of_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode text of users, systems and entities, in which nothing is parsed as a mark or special token."""

    @abstractmethod
    def _utterance(self, ids: Sequence[int], *, by_user: bool) -> list[int]:
        """Return an utterance with what says who speaks."""

    @abstractmethod
    def _first_value(self, value: str) -> list[int]:
        """Return the first value of a real-time query with what says where it comes from."""
