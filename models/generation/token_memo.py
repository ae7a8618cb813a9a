"""Token ids of texts that come again and again: new ones are encoded together, the latest stay known."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

EncodeMany = Callable[[list[str]], list[list[int]]]


class TokenMemo:
    """Remembers the ids of a bounded number of texts. Safe to share between threads."""

    def __init__(self, encode: EncodeMany, *, most: int) -> None:
        """Start empty.

        Args:
            encode: Token ids of each of some texts.
            most: Texts that are remembered; those not asked for the longest go first.
        """
        self._encode, self._most = encode, most
        self._kept: OrderedDict[str, list[int]] = OrderedDict()
        self._guard = threading.Lock()

    def one(self, text: str) -> list[int]:
        """Return the ids of a text."""
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
