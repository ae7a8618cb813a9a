"""Indexes that keep the vectors as they are, one behind the other: exact search, and HNSW over it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.retrieval.faiss_runtime import FAISS, GpuMirror, faiss_threads
from models.retrieval.index_body import Floats, IndexBody, Kind, Rows
from models.retrieval.row_map import RowMap

# Entities handed over at a time: a memory-mapped matrix is read piece by piece.
CHUNK = 65_536
INDEX_FILE = "index.faiss"


class FlatBody(IndexBody):
    """`IndexIDMap2(IndexFlatIP)`: every entity is compared."""

    kind: Kind = "flat"
    exact = True

    def __init__(self, index: Any, *, gpu: GpuMirror | None = None, file: str = INDEX_FILE) -> None:
        """Wrap an `IndexIDMap2`; `file` is what it is called on disk."""
        self._index = index
        self._gpu = gpu
        self._file = file
        self._changed()

    def candidates(self, queries: Floats, num: int, *, thorough: bool = False) -> Rows:
        """See `IndexBody`."""
        base = FAISS.downcast_index(self._index.index)
        searcher = self._gpu.of(base) if self._gpu and self._gpu.can(num) else base
        return self._rows_at(searcher.search(queries, num)[1])

    def vectors(self, rows: Rows) -> Floats:
        """See `IndexBody`."""
        return self._view()[self.map.slots(rows)]

    def add(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`."""
        for start in range(0, len(rows), CHUNK):
            self._index.add_with_ids(e_reps[start : start + CHUNK], rows[start : start + CHUNK])
        self._changed()

    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`: written in place, at the cost of the changed entities only."""
        self._view()[self.map.slots(rows)] = e_reps
        if self._gpu:
            self._gpu.forget()

    def remove(self, rows: Rows) -> None:
        """See `IndexBody`: those behind move up."""
        self._index.remove_ids(FAISS.IDSelectorBatch(rows))
        self._changed()

    def files(self) -> Mapping[str, Any]:
        """See `IndexBody`."""
        return {self._file: self._index}

    def _changed(self) -> None:
        self.map = RowMap(FAISS.vector_to_array(self._index.id_map))
        if self._gpu:
            self._gpu.forget()

    def _rows_at(self, slots: Rows) -> Rows:
        return np.where(slots >= 0, self.map.rows[slots], -1)

    def _storage(self) -> Any:
        return FAISS.downcast_index(self._index.index)

    def _view(self) -> Floats:
        """Return FAISS' own memory [N, D]; not to be kept over a change."""
        storage = self._storage()
        flat = FAISS.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d)
        view: Floats = flat.reshape(storage.ntotal, storage.d)
        return view


class HnswBody(FlatBody):
    """`IndexIDMap2(IndexHNSWFlat)`: a graph is walked; entities can be added only."""

    kind: Kind = "hnsw"
    exact = False

    def __init__(self, index: Any, *, ef_search: int) -> None:
        """Wrap an `IndexIDMap2`; a search keeps `ef_search` candidates at least."""
        super().__init__(index)
        self._ef_search = ef_search

    def candidates(self, queries: Floats, num: int, *, thorough: bool = False) -> Rows:
        """See `IndexBody`: a thorough search compares every entity."""
        if thorough:
            return self._rows_at(self._storage().search(queries, num)[1])
        params = FAISS.SearchParametersHNSW(efSearch=max(self._ef_search, num))
        return self._rows_at(FAISS.downcast_index(self._index.index).search(queries, num, params=params)[1])

    def add(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`: on one thread, since with more FAISS does not promise the same graph twice."""
        with faiss_threads(1):
            super().add(rows, e_reps)

    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`: not possible."""
        raise self._cannot("update")

    def remove(self, rows: Rows) -> None:
        """See `IndexBody`: not possible."""
        raise self._cannot("remove")

    def _storage(self) -> Any:
        return FAISS.downcast_index(FAISS.downcast_index(self._index.index).storage)
