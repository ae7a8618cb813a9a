"""The kinds of index: vectors kept in order (exact search, HNSW), and divided into cells (IVF,Flat and IVF,PQ)."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from typing_extensions import override

from models.dialogue.retrieval.index.backend import Candidates, Floats, IndexBackend, Kind, RowMap, Rows
from models.dialogue.retrieval.index.runtime import FAISS, GpuMirror, faiss_threads

# Entities handed over at a time: a memory-mapped matrix is read piece by piece.
CHUNK = 65_536
INDEX_FILE = "index.faiss"


class FlatBackend(IndexBackend):
    """`IndexIDMap2(IndexFlatIP)`: every entity is compared."""

    kind: Kind = "flat"
    exact = True

    def __init__(self, index: Any, *, gpu: GpuMirror | None = None, file: str = INDEX_FILE) -> None:
        """Wrap an `IndexIDMap2`; `file` is what it is called on disk."""
        self._index = index
        self._gpu = gpu
        self._file = file
        self._changed()

    @override
    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Candidates:
        searcher = self._gpu.of(self._base) if self._gpu and self._gpu.can(num) else self._base
        return self._found(*searcher.search(queries, num))

    @override
    def vectors(self, rows: Rows) -> Floats:
        return self._view.take(self.map.places(rows), axis=0)

    @override
    def add(self, rows: Rows, e_reps: Floats) -> None:
        for start in range(0, len(rows), CHUNK):
            self._index.add_with_ids(e_reps[start : start + CHUNK], rows[start : start + CHUNK])
        self._changed()

    @override
    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBackend`: written in place, at the cost of the changed entities only."""
        self._view[self.map.places(rows)] = e_reps
        if self._gpu:
            self._gpu.forget()

    @override
    def remove(self, rows: Rows) -> None:
        """See `IndexBackend`; later vectors move up."""
        self._index.remove_ids(FAISS.IDSelectorBatch(rows))
        self._changed()

    @override
    def files(self) -> Mapping[str, Any]:
        return {self._file: self._index}

    def _changed(self) -> None:
        self.map = RowMap(FAISS.vector_to_array(self._index.id_map))
        self._slots_are_rows = self.map.straight and not self.map.first
        self._base = FAISS.downcast_index(self._index.index)
        # FAISS' own memory [N, D], which may be reallocated by a change.
        storage = self._storage()
        self._view: Floats = FAISS.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d).reshape(-1, storage.d)
        if self._gpu:
            self._gpu.forget()

    def _found(self, scores: Floats, slots: Rows) -> Candidates:
        if self._slots_are_rows:
            return Candidates(slots, scores)
        return Candidates(np.where(slots >= 0, self.map.rows[slots], -1), scores)

    def _storage(self) -> Any:
        return self._base


class HnswBackend(FlatBackend):
    """`IndexIDMap2(IndexHNSWFlat)`: a graph is walked; entities can be added only."""

    kind: Kind = "hnsw"
    exact = False

    def __init__(self, index: Any, *, ef_search: int) -> None:
        """Wrap an `IndexIDMap2`; a search keeps `ef_search` candidates at least."""
        super().__init__(index)
        self._ef_search = ef_search
        self._params = FAISS.SearchParametersHNSW(efSearch=ef_search)

    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Candidates:
        """See `IndexBackend`: a thorough search compares every entity."""
        if thorough:
            return self._found(*self._storage().search(queries, num))
        params = self._params if num <= self._ef_search else FAISS.SearchParametersHNSW(efSearch=num)
        return self._found(*self._base.search(queries, num, params=params))

    def add(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBackend`: on one thread, since with more FAISS does not promise the same graph twice."""
        with faiss_threads(1):
            super().add(rows, e_reps)

    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBackend`: not possible."""
        raise self._cannot("update")

    def remove(self, rows: Rows) -> None:
        """See `IndexBackend`: not possible."""
        raise self._cannot("remove")

    def _storage(self) -> Any:
        return FAISS.downcast_index(self._base.storage)


# PQ: candidates per wanted entity that are scored again from their vectors; the codes alone find less than half of them.
_RESCORED, _RESCORED_LEAST = 10, 128


class IvfBackend(IndexBackend):
    """`IndexIVFFlat` with its own ids (an id map over cells does not survive `remove`)."""

    kind: Kind = "ivf"

    def __init__(self, index: Any, *, nprobe: int, gpu: GpuMirror | None = None) -> None:
        """Wrap a trained index; a search visits `nprobe` cells."""
        self._index = index
        self._params = FAISS.SearchParametersIVF(nprobe=min(nprobe, index.nlist))
        self._gpu = gpu
        # A served index is searched by several threads.
        self._making = Lock()
        self.map = RowMap(_stored_rows(index.invlists, index.nlist))

    @override
    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Candidates:
        """See `IndexBackend`: a thorough search visits every cell."""
        params = FAISS.SearchParametersIVF(nprobe=self._index.nlist) if thorough else self._params
        if self._gpu is not None and self._gpu.can(num, params.nprobe):
            scores, rows = self._gpu.of(self._index).search(queries, num, params=params)
            return Candidates(rows, scores)
        # The codes are the vectors: no look-up by id, which would need a hash table over all entities.
        scores, rows, codes = self._index.search_and_return_codes(queries, num, params=params)
        return Candidates(rows, scores, codes.view(np.float32))

    @override
    def vectors(self, rows: Rows) -> Floats:
        self._find_by_id()
        vectors: Floats = self._index.reconstruct_batch(rows)
        return vectors

    @override
    def add(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBackend`: the cells stay as they were learned."""
        for start in range(0, len(rows), CHUNK):
            self._index.add_with_ids(e_reps[start : start + CHUNK], rows[start : start + CHUNK])
        self._changed(np.concatenate([self.map.rows, rows]))

    @override
    def update(self, rows: Rows, e_reps: Floats) -> None:
        """See `IndexBackend`: they move to the cell that is nearest now."""
        self._find_by_id()
        self._index.update_vectors(rows, e_reps)
        self._changed(None)

    @override
    def remove(self, rows: Rows) -> None:
        self._find_by_id()
        self._index.remove_ids(FAISS.IDSelectorArray(rows))
        self._changed(self.map.rows[~np.isin(self.map.rows, rows)])

    @override
    def files(self) -> Mapping[str, Any]:
        """See `IndexBackend`: without the table by id, which is quickly made and slowly read."""
        self._index.set_direct_map_type(FAISS.DirectMap.NoMap)
        return {INDEX_FILE: self._index}

    def _find_by_id(self) -> None:
        """Have FAISS keep a table by id, needed to read, replace and remove single entities; made on first use."""
        with self._making:
            if self._index.direct_map.type != FAISS.DirectMap.Hashtable:
                self._index.set_direct_map_type(FAISS.DirectMap.Hashtable)

    def _changed(self, rows: Rows | None) -> None:
        if rows is not None:
            self.map = RowMap(rows)
        if self._gpu is not None:
            self._gpu.forget()


class PqBackend(IvfBackend):
    """`IndexIVFPQ`: codes of a few bytes find candidates; scores come from separately stored vectors (on disk, once loaded)."""

    kind: Kind = "pq"
    by_vector = False

    def __init__(self, index: Any, *, nprobe: int, kept: FlatBackend) -> None:
        """Wrap a trained index and the vectors themselves."""
        super().__init__(index, nprobe=nprobe)
        self._kept = kept

    @override
    def near(self, queries: Floats, num: int, *, thorough: bool = False) -> Candidates:
        """See `IndexBackend`: more than are wanted, for the caller to score."""
        more = min(len(self), max(num * _RESCORED, _RESCORED_LEAST))
        params = FAISS.SearchParametersIVF(nprobe=self._index.nlist) if thorough else self._params
        scores, rows = self._index.search(queries, more, params=params)
        return Candidates(rows, scores)

    @override
    def vectors(self, rows: Rows) -> Floats:
        return self._kept.vectors(rows)

    @override
    def add(self, rows: Rows, e_reps: Floats) -> None:
        super().add(rows, e_reps)
        self._kept.add(rows, e_reps)

    @override
    def update(self, rows: Rows, e_reps: Floats) -> None:
        super().update(rows, e_reps)
        self._kept.update(rows, e_reps)

    @override
    def remove(self, rows: Rows) -> None:
        super().remove(rows)
        self._kept.remove(rows)

    @override
    def files(self) -> Mapping[str, Any]:
        return {**super().files(), **self._kept.files()}


def _stored_rows(lists: Any, nlist: int) -> Rows:
    """Return all ids of inverted lists."""
    sizes = [lists.list_size(cell) for cell in range(nlist)]
    held = [FAISS.rev_swig_ptr(lists.get_ids(cell), size) for cell, size in enumerate(sizes) if size]
    return np.concatenate([np.empty(0, dtype=np.int64), *held])
