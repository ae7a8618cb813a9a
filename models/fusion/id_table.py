"""The sample ids of a store, packed: some 40 bytes each, where Python strings in a dictionary take 150."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload
from zlib import crc32

import numpy as np
import numpy.typing as npt

MISSING = -1
_CHUNK = 16_384


class IdTable(Sequence[str]):
    """Ids by position, and positions by id.

    Ids lie end to end as UTF-8. They are found by their sorted checksums; of those with equal checksums the bytes decide.
    """

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        """Pack the ids of all groups, in order; a group is read once and let go."""
        blob = bytearray()
        sizes, sums = [np.zeros(1, np.int64)], [np.empty(0, np.uint32)]
        for ids in groups:
            keys = [id_.encode() for id_ in ids]
            blob += b"".join(keys)
            sizes.append(np.fromiter(map(len, keys), np.int64, len(keys)))
            sums.append(_checksums(keys))
        self._blob = bytes(blob)
        self._bounds = np.concatenate(sizes).cumsum()
        unsorted = np.concatenate(sums)
        # Stable: of equal ids the first comes first.
        self._order = np.argsort(unsorted, kind="stable").astype(np.uint32 if len(unsorted) < 2**32 else np.int64)
        self._sums = unsorted[self._order]

    def __len__(self) -> int:
        return len(self._sums)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return self.at(np.arange(len(self))[index])
        return self.at(np.array([range(len(self))[index]]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            yield from self[start : start + _CHUNK]

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and int(self.find([id_])[0]) != MISSING

    def at(self, positions: npt.NDArray[np.integer]) -> tuple[str, ...]:
        """Return the ids at the given positions."""
        return tuple([key.decode() for key in self._keys(positions)])

    def find(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return int64[len(ids)], the position of each id (the first, if it occurs more than once), or -1."""
        chunks = [self._find(ids[start : start + _CHUNK]) for start in range(0, len(ids), _CHUNK)]
        return np.concatenate([np.empty(0, np.int64), *chunks])

    def repeated(self) -> Iterator[tuple[int, int]]:
        """Iterate over the positions of ids that occurred before: (first position, later position)."""
        same = self._sums[1:] == self._sums[:-1]
        slots = np.flatnonzero(np.append(same, False) | np.concatenate([np.zeros(1, np.bool_), same])[: len(self)])
        seen: dict[bytes, int] = {}
        for position in self._order[slots[slots < len(self)]].tolist():
            (key,) = self._keys(np.array([position]))
            if seen.setdefault(key, position) != position:
                yield seen[key], position

    def _keys(self, positions: npt.NDArray[np.integer]) -> list[bytes]:
        blob, starts, stops = self._blob, self._bounds[positions].tolist(), self._bounds[positions + 1].tolist()
        return [blob[start:stop] for start, stop in zip(starts, stops, strict=True)]

    def _find(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        keys = [id_.encode() for id_ in ids]
        if not len(self):
            return np.full(len(keys), MISSING, np.int64)
        sums = _checksums(keys)
        slots = np.searchsorted(self._sums, sums)
        positions = self._order[np.minimum(slots, len(self) - 1)].astype(np.int64)
        for i, (found, key) in enumerate(zip(self._keys(positions), keys, strict=True)):
            if found != key:
                positions[i] = self._walk(int(slots[i]), key, int(sums[i]))
        return positions

    def _walk(self, slot: int, key: bytes, checksum: int) -> int:
        """Look through the ids with this checksum."""
        while slot < len(self) and int(self._sums[slot]) == checksum:
            position = self._order[slot : slot + 1].astype(np.int64)
            if self._keys(position)[0] == key:
                return int(position[0])
            slot += 1
        return MISSING


def _checksums(keys: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    return np.fromiter(map(crc32, keys), np.uint32, len(keys))
