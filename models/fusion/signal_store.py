"""Reading a folder of shards by sample id, through memory maps."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import SignalError
from models.fusion.safetensors_file import Array
from models.fusion.signal_record import SampleSignals, SignalBatch, SignalSpec
from models.fusion.signal_shard import Shard, complete_shards, open_shard, stored_columns

_MAPS_OPEN = 256  # every map holds a file descriptor, and 1,024 is a usual limit


class SignalStore:
    """A folder of shards, read by sample id. Use `SignalStore.open`.

    Only ids, offsets and headers live in memory; at most 256 shards are mapped at a time.

    Attributes:
        folder: The folder.
        spec: What the store was made from.
        ids: All sample ids, in shard order.
    """

    def __init__(self, folder: Path, spec: SignalSpec, shards: Sequence[Shard]) -> None:
        """Index the ids; `open` checks the files."""
        self.folder = folder
        self.spec = spec
        self.ids: tuple[str, ...] = tuple(id_ for shard in shards for id_ in shard.ids)
        self._shards = tuple(shards)
        self._position = {id_: position for position, id_ in enumerate(self.ids)}
        self._shard_of = np.repeat(np.arange(len(shards)), [len(shard.ids) for shard in shards])
        self._maps: OrderedDict[int, dict[str, Array]] = OrderedDict()
        tables = ["offsets"] + (["prompt_offsets"] if spec.kind == "aligned" else [])
        self._spans = {table: self._read_spans(table) for table in tables}

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
        shards = [open_shard(path) for path in complete_shards(folder).values()]
        if not shards:
            raise SignalError(f"`{folder}` must hold at least one complete shard, but has none. Run the stage that writes it.")
        spec = shards[0].spec
        spec.require(expect or {}, where=str(folder))
        seen: dict[str, Path] = {}
        for shard in shards:
            shard.spec.require(asdict(spec), where=str(shard.path))
            for id_ in shard.ids:
                first = seen.setdefault(id_, shard.path)
                if first is not shard.path:
                    raise SignalError(f"`{id_}` must occur once in `{folder}`, but is in `{first.name}` and `{shard.path.name}`.")
        return cls(folder, spec, shards)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._position

    @property
    def num_tokens(self) -> int:
        """Rows of all shards."""
        spans = self._spans["offsets"]
        return int((spans[:, 1] - spans[:, 0]).sum())

    def bytes_per_token(self) -> float:
        """Bytes on disk per row, everything included (headers, offsets, ids)."""
        return sum(shard.num_bytes for shard in self._shards) / max(self.num_tokens, 1)

    def __getitem__(self, id_: str) -> SampleSignals:
        """Return one sample; its arrays are read-only views on the map (ids are widened to uint32)."""
        position = self._locate(id_)
        arrays = self._map(int(self._shard_of[position]))
        rows = slice(*self._spans["offsets"][position])
        prompt = slice(*self._spans["prompt_offsets"][position]) if self.spec.kind == "aligned" else rows
        columns = {
            name: arrays[name][prompt if name.startswith("prompt") else rows] for name in arrays if not name.endswith("offsets")
        }
        wide = {name: array.astype(np.uint32, copy=False) for name, array in columns.items() if name.endswith("_ids")}
        return SampleSignals(id=id_, **{**columns, **wide})  # type: ignore[arg-type]

    def gather(self, ids: Sequence[str]) -> SignalBatch:
        """Read many samples at once, in the order asked for (an id may be asked for twice).

        Returns:
            Concatenated arrays of their own memory, with offsets.

        Raises:
            SignalError: An id is not in the store.
        """
        positions = np.array([self._locate(id_) for id_ in ids], dtype=np.int64)
        offsets, columns = self._copy(positions, "offsets", list(stored_columns(self.spec)))
        if self.spec.kind == "aligned":
            prompt_offsets, prompts = self._copy(positions, "prompt_offsets", ["prompt_ids"])
            columns |= {"prompt_offsets": prompt_offsets, **prompts}
        return SignalBatch(ids=tuple(ids), offsets=offsets, **columns)  # type: ignore[arg-type]

    def _copy(
        self, positions: npt.NDArray[np.int64], table: str, names: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
        """Copy the rows of the samples at `positions` (cut by `table`) out of the arrays `names`."""
        spans, shards = self._spans[table][positions], self._shard_of[positions]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(spans[:, 1] - spans[:, 0])])
        # Samples that follow each other on disk are copied as one run.
        joined = (shards[1:] == shards[:-1]) & (spans[1:, 0] == spans[:-1, 1])
        first = np.flatnonzero(np.concatenate([np.ones(min(len(positions), 1), np.bool_), ~joined]))
        last = np.concatenate([first[1:], [len(positions)]])[: len(first)] - 1
        out = {name: self._empty(name, int(offsets[-1])) for name in names}
        runs = zip(shards[first], spans[first, 0], spans[last, 1], offsets[first], offsets[last + 1], strict=True)
        for shard, start, stop, begin, end in runs:
            arrays = self._map(int(shard))
            for name, target in out.items():
                target[begin:end] = arrays[name][start:stop]
        return offsets, out

    def _empty(self, name: str, rows: int) -> Array:
        dtype = np.dtype(np.uint32) if name.endswith("_ids") else np.dtype(stored_columns(self.spec)[name])
        return np.empty((rows, self.spec.top_k) if name.startswith("topk") else (rows,), dtype)

    def _locate(self, id_: str) -> int:
        try:
            return self._position[id_]
        except KeyError:
            raise SignalError(
                f"`{id_}` is not in the signal store `{self.folder}` ({len(self)} samples, source `{self.spec.source}`). "
                "The store is incomplete or of another corpus: run the stage that writes it."
            ) from None

    def _map(self, shard: int) -> dict[str, Array]:
        if shard not in self._maps:
            while len(self._maps) >= _MAPS_OPEN:
                self._maps.popitem(last=False)
            self._maps[shard] = self._shards[shard].header.map()
        self._maps.move_to_end(shard)
        return self._maps[shard]

    def _read_spans(self, table: str) -> npt.NDArray[np.int64]:
        """Return int64[S, 2]: first and last + 1 row of every sample within its shard."""
        offsets = [self._map(shard)[table].astype(np.int64) for shard in range(len(self._shards))]
        return np.concatenate([np.stack([part[:-1], part[1:]], axis=1) for part in offsets])
