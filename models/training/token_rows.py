"""Token ids of many texts, made once: four bytes a token and eight a row."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt


class TokenRows(Sequence[list[int]]):
    """Rows of token ids in one flat int32 array with offsets."""

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        """Take the rows, one after the other."""
        flat, ends = array("i"), array("q", [0])
        for row in rows:
            flat.extend(row)
            ends.append(len(flat))
        self._flat: npt.NDArray[np.int32] = np.frombuffer(flat, dtype=np.int32) if flat else np.empty(0, np.int32)
        self._ends: npt.NDArray[np.int64] = np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> list[int]:  # type: ignore[override]
        """Return the ids of a row."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        ids: list[int] = self._flat[self._ends[row] : self._ends[row + 1]].tolist()
        return ids


def in_chunks(items: Sequence[str] | Iterable[str], *, size: int = 4096) -> Iterator[list[str]]:
    """Yield lists of at most `size` items, so that texts are tokenised together but not all at once."""
    chunk: list[str] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
