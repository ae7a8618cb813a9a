"""Searching the entity index beside bare FAISS on the same file: what true scores and a fixed order cost, and what is found.

`python -m benchmarks.index 1000000 ivf` measures one size and kind by itself (1M × 384: 6 GB of memory and 1.5 GB of disk).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from models.params.index import IndexParams
from models.reporting.results import ResultRow
from models.retrieval.faiss_index import EntityIndex

DIM, TOP, QUERIES, WIDTH = 384, 10, 200, 0.05
DIGESTS = {"encoder_digest": "generated", "kb_digest": "generated"}


def measure(num: int = 20_000, kinds: Sequence[str] = ("flat", "ivf", "hnsw")) -> list[ResultRow]:
    e_reps, queries = clustered(num)
    best = EntityIndex.build(IndexParams(kind="flat"), e_reps, ids=np.arange(num), **DIGESTS, threads=1).search(queries, TOP).rows
    return [row for kind in kinds for row in measure_kind(kind, e_reps, queries, best)]


def measure_kind(kind: Any, e_reps: np.ndarray, queries: np.ndarray, best: np.ndarray) -> list[ResultRow]:
    num, cfg = len(e_reps), IndexParams(kind=kind)
    started = time.perf_counter()
    index = EntityIndex.build(cfg, e_reps, ids=np.arange(num), **DIGESTS, threads=1)
    built = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        raw = faiss.read_index(str(Path(folder) / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        # Both sides read the same map, so that 1M entities are in memory once.
        del index
        index = EntityIndex.load(Path(folder), expect_encoder="generated", expect_kb="generated", threads=1)
        params = {
            "ivf": lambda: faiss.SearchParametersIVF(nprobe=cfg.nprobe),
            "hnsw": lambda: faiss.SearchParametersHNSW(efSearch=cfg.hnsw_ef_search),
        }.get(kind, lambda: None)()
        faiss.omp_set_num_threads(1)
        ours = recall(index.search(queries, TOP).rows, best)
        peer = recall(raw.search(queries, TOP, params=params)[1], best)
        if ours < peer - 1e-9:
            raise SystemExit(f"{kind}: our recall {ours} is below that of the same FAISS index, {peer}")
        ours_ms, peer_ms, ratio = paired_latency(
            lambda query: index.search(query, TOP), lambda query: raw.search(query, TOP, params=params), queries
        )
    what = f"index {kind}, N={num}, D={DIM}"
    more = {"ours_p50_ms": ours_ms, "peer_p50_ms": peer_ms, "build_s": built}
    return [
        ResultRow(f"{what}: ours / bare FAISS, one query", ratio, "ratio", num=len(queries), more=more),
        ResultRow(f"{what}: recall@{TOP}", ours, "share", num=len(queries), more={"peer_recall": peer}),
    ]


def paired_latency(
    ours: Callable[[np.ndarray], object], peer: Callable[[np.ndarray], object], queries: np.ndarray
) -> tuple[float, float, float]:
    """Return median milliseconds of ours, of the peer, and the median ratio, query by query in turn (ten to warm up)."""
    times = [(latency(ours, query), latency(peer, query)) for query in queries[:, None]][10:]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )


def latency(search: Callable[[np.ndarray], object], query: np.ndarray) -> float:
    started = time.perf_counter()
    search(query)
    return 1000 * (time.perf_counter() - started)


def recall(found: np.ndarray, best: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / TOP for a, b in zip(found.tolist(), best.tolist(), strict=True)]))


def clustered(num: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors [num, DIM] around sqrt(num) centres, and queries near entities."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((round(num**0.5), DIM), dtype=np.float32))
    e_reps = np.empty((num, DIM), dtype=np.float32)
    for start in range(0, num, 65_536):
        block = e_reps[start : start + 65_536]
        near = centres[rng.integers(len(centres), size=len(block))]
        block[:] = unit(near + WIDTH * rng.standard_normal(block.shape, dtype=np.float32))
    chosen = e_reps[rng.integers(num, size=QUERIES)]
    return e_reps, unit(chosen + WIDTH * rng.standard_normal(chosen.shape, dtype=np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("num", type=int)
    parser.add_argument("kinds", nargs="+", choices=("flat", "ivf", "hnsw", "pq"))
    asked = parser.parse_args()
    for line in measure(asked.num, asked.kinds):
        print(f"{line.name:58s} {line.value:12.3f} {line.unit} {dict(line.more)}")
