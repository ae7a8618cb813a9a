"""Which FAISS index a setting means, made empty and trained, or taken from its files."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.dialogue.retrieval.index.backend import Floats, IndexBackend, Kind
from models.dialogue.retrieval.index.backends import INDEX_FILE, FlatBackend, HnswBackend, IvfBackend, PqBackend
from models.dialogue.retrieval.index.runtime import FAISS, gpu_mirror
from models.errors import RetrievalError
from models.params.index import IndexParams

VECTORS_FILE = "vectors.faiss"
# Learning the cells and finding each entity's own costs (rounds · sample + N) · cells · D. With 2·sqrt(N) cells instead of
# 4·sqrt(N), both halve and a search that visits as many cells finds more; 50 entities a cell are enough to learn from.
_CELLS, _CELL_POINTS, _SAMPLE_LEAST = 2, 50, 20_000
_CODE_BITS = 8
# Learning the codes is slow in FAISS' CPU wheels; the vectors kept with them make up for coarser ones.
_CODE_ROUNDS, _CODE_POINTS = 10, 64


def resolve_kind(cfg: IndexParams, num: int) -> Kind:
    """Return the kind for `num` entities."""
    if cfg.kind != "auto":
        return cfg.kind
    return "flat" if num <= cfg.exact_up_to else "ivf"


def make_backend(cfg: IndexParams, e_reps: Floats, *, device: str) -> IndexBackend:
    """Return an empty index for `e_reps` [N, D], its cells learned from them.

    Raises:
        RetrievalError: Too few entities for the kind, or `index.pq_bytes` does not divide D.
    """
    kind, dim = resolve_kind(cfg, len(e_reps)), e_reps.shape[1]
    if kind == "flat":
        made = {INDEX_FILE: _empty_flat(dim)}
    elif kind == "hnsw":
        made = {INDEX_FILE: FAISS.IndexIDMap2(FAISS.IndexHNSWFlat(dim, cfg.hnsw_m, FAISS.METRIC_INNER_PRODUCT))}
    else:
        made = {INDEX_FILE: _trained_cells(cfg, kind, e_reps), VECTORS_FILE: _empty_flat(dim)}
    return wrap(cfg, kind, made, device=device)


def wrap(cfg: IndexParams, kind: Kind, indexes: Mapping[str, Any], *, device: str) -> IndexBackend:
    """Return the backend around the FAISS indexes of its files."""
    index, gpu = indexes[INDEX_FILE], gpu_mirror(device, kind=kind)
    if kind == "flat":
        return FlatBackend(index, gpu=gpu)
    if kind == "hnsw":
        return HnswBackend(index, ef_search=cfg.hnsw_ef_search)
    if kind == "ivf":
        return IvfBackend(index, nprobe=cfg.nprobe, gpu=gpu)
    return PqBackend(index, nprobe=cfg.nprobe, kept=FlatBackend(indexes[VECTORS_FILE], file=VECTORS_FILE))


def file_names(kind: Kind) -> tuple[str, ...]:
    """Return the files an index of `kind` is stored in."""
    return (INDEX_FILE, VECTORS_FILE) if kind == "pq" else (INDEX_FILE,)


def _empty_flat(dim: int) -> Any:
    return FAISS.IndexIDMap2(FAISS.IndexFlatIP(dim))


def _trained_cells(cfg: IndexParams, kind: Kind, e_reps: Floats) -> Any:
    nlist = cfg.nlist or round(_CELLS * math.sqrt(len(e_reps)))
    sample = _sample(e_reps, most=min(cfg.train_entities, max(_CELL_POINTS * nlist, _SAMPLE_LEAST)), seed=cfg.seed)
    nlist = min(nlist, len(sample))
    _check_sizes(cfg, kind, num=len(sample), dim=e_reps.shape[1])
    index = _untrained(cfg, kind, dim=e_reps.shape[1], nlist=nlist)
    index.cp.seed = cfg.seed
    # A small KB may leave a cell few entities; that costs speed, not results, so FAISS need not warn on stderr.
    index.cp.min_points_per_centroid = 1
    index.train(sample)
    return index


def _untrained(cfg: IndexParams, kind: Kind, *, dim: int, nlist: int) -> Any:
    coarse = FAISS.IndexFlatIP(dim)
    if kind == "ivf":
        index = FAISS.IndexIVFFlat(coarse, dim, nlist, FAISS.METRIC_INNER_PRODUCT)
    else:
        index = FAISS.IndexIVFPQ(coarse, dim, nlist, cfg.pq_bytes, _CODE_BITS, FAISS.METRIC_INNER_PRODUCT)
        index.pq.cp.seed, index.pq.cp.niter = cfg.seed, _CODE_ROUNDS
        index.pq.cp.min_points_per_centroid, index.pq.cp.max_points_per_centroid = 1, _CODE_POINTS
    return index


def _sample(e_reps: Floats, *, most: int, seed: int) -> Floats:
    if len(e_reps) <= most:
        return e_reps
    chosen = np.random.default_rng(seed).choice(len(e_reps), most, replace=False)
    return e_reps[np.sort(chosen)]


def _check_sizes(cfg: IndexParams, kind: Kind, *, num: int, dim: int) -> None:
    least = 2**_CODE_BITS if kind == "pq" else 1
    if num < least:
        raise RetrievalError(
            f"`index.kind` `{kind}` must have at least {least} entities to learn from, but has {num}. Use `flat`: it is exact."
        )
    if kind == "pq" and dim % cfg.pq_bytes:
        raise RetrievalError(
            f"`index.pq_bytes` must divide the embedding size {dim}, but is {cfg.pq_bytes}. Choose a divisor of {dim}."
        )
