"""Indexes that keep the vectors as they are, one behind the other: exact search, and HNSW over it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.retrieval.faiss_runtime import FAISS, GpuMirror, faiss_threads
from models.retrieval.index_body import Floats, Found, IndexBody, Kind, Rows
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

    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Found:
        """See `IndexBody`."""
        searcher = self._gpu.of(self._base) if self._gpu and self._gpu.can(num) else self._base
        return self._found(*searcher.search(queries, num))

    def vectors(self, rows: Rows) -> Floats:
        """See `IndexBody`."""
        return self._view.take(self.map.places(rows), axis=0)

    def add(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`."""
        for start in range(0, len(rows), CHUNK):
            self._index.add_with_ids(e_reps[start : start + CHUNK], rows[start : start + CHUNK])
        self._changed()

    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBody`: written in place, at the cost of the changed entities only."""
        self._view[self.map.places(rows)] = e_reps
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
        self._slots_are_rows = self.map.straight and not self.map.first
        self._base = FAISS.downcast_index(self._index.index)
        # FAISS' own memory [N, D], which lies elsewhere after a change.
        storage = self._storage()
        self._view: Floats = FAISS.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d).reshape(-1, storage.d)
        if self._gpu:
            self._gpu.forget()

    def _found(self, scores: Floats, slots: Rows) -> Found:
        if self._slots_are_rows:
            return Found(slots, scores)
        return Found(np.where(slots >= 0, self.map.rows[slots], -1), scores)

    def _storage(self) -> Any:
        return self._base


class HnswBody(FlatBody):
    """`IndexIDMap2(IndexHNSWFlat)`: a graph is walked; entities can be added only."""

    kind: Kind = "hnsw"
    exact = False

    def __init__(self, index: Any, *, ef_search: int) -> None:
        """Wrap an `IndexIDMap2`; a search keeps `ef_search` candidates at least."""
        super().__init__(index)
        self._ef_search = ef_search
        self._params = FAISS.SearchParametersHNSW(efSearch=ef_search)

    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Found:
        """See `IndexBody`: a thorough search compares every entity."""
        if thorough:
            return self._found(*self._storage().search(queries, num))
        params = self._params if num <= self._ef_search else FAISS.SearchParametersHNSW(efSearch=num)
        return self._found(*self._base.search(queries, num, params=params))

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
        return FAISS.downcast_index(self._base.storage)
