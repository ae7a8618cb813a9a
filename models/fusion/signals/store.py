"""Reading a folder of shards by sample id, through memory maps; the ids are packed into some 40 bytes each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload
from zlib import crc32

import numpy as np
import numpy.typing as npt

from models.errors import SignalError
from models.fusion.signals.arrays import Array, RowReader, Run, TensorHeader, max_maps
from models.fusion.signals.record import SampleSignals, SignalBatch, SignalSpec
from models.fusion.signals.shard import complete_shards, open_shard, stored_columns

MISSING = -1
_CHUNK = 16_384


class IdTable(Sequence[str]):
    """Ids by position, and positions by id.

    Ids are concatenated as UTF-8 and looked up by sorted checksums; bytes are compared if checksums are equal.
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


Positions = npt.NDArray[np.integer]

_TOPK, _IDS = frozenset({"topk_ids", "topk_logprobs"}), frozenset({"token_ids", "topk_ids", "prompt_ids"})


class SignalStore:
    """A folder of shards, read by sample id, or by position (from 0, in shard order) where many are read. Use `open`.

    Headers, packed ids and row offsets are kept in memory, about 80 bytes per sample. Up to `max_maps` shards are memory-mapped;
    others are read on demand.

    Attributes:
        folder: The folder.
        spec: Identity of the store's inputs.
        ids: Sample ids by position.
    """

    def __init__(self, folder: Path, spec: SignalSpec, ids: IdTable, shards: Sequence["_Part"]) -> None:
        """Index the rows; `open` checks the files."""
        self.folder = folder
        self.spec = spec
        self.ids = ids
        sizes = [shard.num_samples for shard in shards]
        self._num_bytes = sum(shard.num_bytes for shard in shards)
        self._first = np.cumsum([0, *sizes])[:-1]
        self._reader = RowReader([shard.header for shard in shards], max_maps=max_maps())
        self._dtypes = {name: np.dtype(dtype) for name, dtype in stored_columns(spec).items()} | {"prompt_ids": spec.id_dtype}
        aligned = ("prompt_offsets",) if spec.kind == "aligned" else ()
        self._spans = {table: self._read_spans(table, sizes) for table in ("offsets", *aligned)}

    @classmethod
    def open(cls, folder: Path, *, expect: Mapping[str, object] | None = None) -> "SignalStore":
        """Open the complete shards of a folder.

        Args:
            folder: Where `write_shard` wrote.
            expect: Fields of `SignalSpec` that must have these values.

        Raises:
            SignalError: No shard; a truncated one (file, expected and found bytes); another tokenizer, corpus or model
                (field, stored and expected value); shards of different specs; an id that occurs twice.
        """
        paths = list(complete_shards(folder).values())
        if not paths:
            raise SignalError(f"`{folder}` must hold at least one complete shard, but has none. Run the stage that writes it.")
        parts: list[_Part] = []
        spec = open_shard(paths[0]).spec
        spec.require(expect or {}, where=str(folder))
        ids = IdTable(_open_parts(paths, spec, parts))
        store = cls(folder, spec, ids, parts)
        for pair in ids.repeated():
            one, other = (paths[shard].name for shard in store._shards_of(np.array(pair)))
            raise SignalError(f"`{ids[pair[0]]}` must occur once in `{folder}`, but is in `{one}` and `{other}`.")
        return store

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.ids

    @property
    def num_tokens(self) -> int:
        """Rows of all shards."""
        return int(self.lengths(np.arange(len(self))).sum())

    def bytes_per_token(self) -> float:
        """Bytes on disk per row, everything included (headers, offsets, ids)."""
        return self._num_bytes / max(self.num_tokens, 1)

    def find(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return int64[len(ids)], the position of each id, -1 where the store does not hold it."""
        return self.ids.find(ids)

    def lengths(self, positions: Positions) -> npt.NDArray[np.int64]:
        """Return int64, the response tokens of each sample, end token included."""
        return _lengths(self._spans["offsets"][positions])

    def prompt_lengths(self, positions: Positions) -> npt.NDArray[np.int64]:
        """Return int64, the prompt tokens of each sample; 0 where the store holds no prompts."""
        spans = self._spans.get("prompt_offsets")
        return np.zeros(len(positions), np.int64) if spans is None else _lengths(spans[positions])

    def __getitem__(self, id_: str) -> SampleSignals:
        """Return one sample; its arrays are read-only, and views on the map where they can be (ids are widened to uint32)."""
        position = self._locate([id_])
        shard = int(self._shards_of(position)[0])
        columns: dict[str, Array] = {}
        for table, names in self._tables().items():
            start, stop = self._spans[table][position[0]].tolist()
            rows = self._reader.read([(shard, start, stop)], names)
            columns |= {name: self._array(name, part, stop - start) for name, (part,) in zip(names, rows, strict=True)}
        return SampleSignals(id=id_, **columns)  # type: ignore[arg-type]

    def gather(self, ids: Sequence[str]) -> SignalBatch:
        """Read many samples at once, in the given order (ids may repeat).

        Returns:
            Concatenated arrays, copied, with offsets.

        Raises:
            SignalError: An id is not in the store.
        """
        return self._gather(self._locate(ids), tuple(ids))

    def gather_at(self, positions: Positions) -> SignalBatch:
        """Read as `gather` does, by position."""
        return self._gather(positions, self.ids.at(positions))

    def _gather(self, positions: Positions, ids: tuple[str, ...]) -> SignalBatch:
        columns: dict[str, Any] = {}
        for table, names in self._tables().items():
            columns[table], arrays = self.read_at(positions, names, table=table)
            columns |= arrays
        return SignalBatch(ids=ids, **columns)

    def read_at(
        self, positions: Positions, names: Sequence[str], *, table: str = "offsets"
    ) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
        """Copy the rows of the samples at `positions` out of the arrays `names`, which `table` cuts into samples.

        Returns:
            Offsets int64[S + 1], and the concatenated rows by name.
        """
        spans, shards = self._spans[table][positions], self._shards_of(positions)
        offsets = np.concatenate([np.zeros(1, np.int64), _lengths(spans).cumsum()])
        parts = self._reader.read(_join(shards.tolist(), spans.tolist()), names)
        # Bytes are joined first and given their type once: many short copies by numpy take three times as long.
        joined = {name: bytearray().join(part) for name, part in zip(names, parts, strict=True)}
        return offsets, {name: self._array(name, raw, int(offsets[-1])) for name, raw in joined.items()}

    def _tables(self) -> dict[str, tuple[str, ...]]:
        responses = {"offsets": tuple(stored_columns(self.spec))}
        return responses | ({"prompt_offsets": ("prompt_ids",)} if self.spec.kind == "aligned" else {})

    def _array(self, name: str, raw: memoryview | bytes | bytearray, rows: int) -> Array:
        shape = (rows, self.spec.top_k) if name in _TOPK else (rows,)
        array: Array = np.ndarray(shape, self._dtypes[name], raw)
        return array.astype(np.uint32) if name in _IDS and array.dtype != np.uint32 else array

    def _locate(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        positions = self.find(ids)
        if (positions == MISSING).any():
            id_ = ids[int(np.argmin(positions))]
            raise SignalError(
                f"`{id_}` is not in the signal store `{self.folder}` ({len(self)} samples, source `{self.spec.source}`). "
                "The store is incomplete or of another corpus: run the stage that writes it."
            )
        return positions

    def _shards_of(self, positions: Positions) -> npt.NDArray[np.int64]:
        return np.searchsorted(self._first, positions, side="right") - 1

    def _read_spans(self, table: str, sizes: Sequence[int]) -> npt.NDArray[np.uint32]:
        """Return uint32[S, 2]: first and last + 1 row of every sample within its shard."""
        spans, at = np.empty((sum(sizes), 2), np.uint32), 0
        for shard, size in enumerate(sizes):
            offsets = np.frombuffer(self._reader.read([(shard, 0, size + 1)], [table])[0][0], "<u4")
            spans[at : at + size, 0], spans[at : at + size, 1] = offsets[:-1], offsets[1:]
            at += size
        return spans


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """In-memory index of one shard."""

    header: TensorHeader
    num_samples: int
    num_bytes: int


def _open_parts(paths: Sequence[Path], spec: SignalSpec, parts: list[_Part]) -> Iterator[list[str]]:
    """Check the shards one by one and iterate over their ids; `parts` gets the rest."""
    for path in paths:
        shard = open_shard(path)
        shard.spec.require(asdict(spec), where=str(path))
        parts.append(_Part(shard.header, len(shard.ids), shard.num_bytes))
        yield shard.ids


def _lengths(spans: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    return spans[:, 1].astype(np.int64) - spans[:, 0]


def _join(shards: Sequence[int], spans: Sequence[Sequence[int]]) -> list[Run]:
    """Return the rows to read; samples that follow each other on disk are one run."""
    runs: list[Run] = []
    here, end = -1, -1
    for shard, (start, stop) in zip(shards, spans, strict=True):
        if shard == here and start == end:
            runs[-1] = (shard, runs[-1][1], stop)
        else:
            runs.append((shard, start, stop))
        here, end = shard, stop
    return runs
