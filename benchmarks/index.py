"""Searching the entity index beside a bare call of the FAISS index in it: what true scores and a fixed order cost, what is found.

Both sides take the same queries in turn, each shifted by half of them: the second to ask the same would find the cells in the
processor's cache. `python -m benchmarks.index 100000 ivf` measures one size and kind by itself (1M × 384: 4 GB of memory and
1.5 GB of disk).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.index_vectors import clustered, nearest, recall, spread
from benchmarks.memory import peak_megabytes
from benchmarks.timing import paired
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.params.index import IndexParams
from models.reporting.results import ResultRow

TOP, ROUNDS = 10, 3
DIGESTS = {"encoder_digest": "generated", "kb_digest": "generated"}
EXPECT = {"expect_encoder": "generated", "expect_kb": "generated"}
# Ours on top of FAISS: the checks, the true scores and the order, in Python that the search has driven out of the cache.
LIMIT = "about 20 µs a call, up to 100 µs where the search fills the processor's cache, whatever FAISS takes"


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rows = [row for kind in ("flat", "hnsw") for row in measure_kind(kind, *clustered(20_000))]
    rows += measure_kind("ivf", *spread(100_000), data="without clusters")
    return rows + measure_kind("ivf", *clustered(1_000_000), large=True)


def measure_kind(
    kind: Any, e_reps: np.ndarray, queries: np.ndarray, *, data: str = "clustered", large: bool = False
) -> list[ResultRow]:
    num, dim = e_reps.shape
    best, cfg = nearest(e_reps, queries, TOP), IndexParams(kind=kind)
    seconds: list[float] = []

    def build() -> None:
        started = time.perf_counter(), time.process_time()
        index = EntityIndex.build(cfg, e_reps, ids=np.arange(num), **DIGESTS, threads=1)
        seconds.extend([time.perf_counter() - started[0], time.process_time() - started[1]])
        index.save(folder)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peak = peak_megabytes(build)
        what = f"index {kind}, N={num}, D={dim}"
        rows = list(_searched(what, cfg, folder, queries, best, data=data))
        if large:
            rows += list(_sized(what, folder, num, seconds, peak))
    return rows


def _searched(
    what: str, cfg: IndexParams, folder: Path, queries: np.ndarray, best: np.ndarray, *, data: str
) -> Iterator[ResultRow]:
    index = EntityIndex.load(folder, **EXPECT, threads=1)
    # The very object that ours wraps: a second copy would lie elsewhere in memory, and be faster or slower for that.
    raw = index._body.files()["index.faiss"]
    params = {
        "ivf": lambda: faiss.SearchParametersIVF(nprobe=cfg.nprobe),
        "hnsw": lambda: faiss.SearchParametersHNSW(efSearch=cfg.hnsw_ef_search),
    }.get(cfg.kind, lambda: None)()

    def ours(some: np.ndarray) -> np.ndarray:
        return index.search(some, TOP).rows

    def peer(some: np.ndarray) -> np.ndarray:
        return raw.search(some, TOP, params=params)[1]

    found, theirs = recall(ours(queries), best), recall(peer(queries), best)
    if found < theirs - 1e-9:
        raise SystemExit(f"{what}: our recall {found} is below that of the same FAISS index, {theirs}")
    (ours_ms, wall), (peer_ms, _) = interleaved(ours, peer, queries)
    more = {"ours_p50_ms": ours_ms, "peer_p50_ms": peer_ms, "ours_p50_wall_ms": wall}
    more |= {"target": "<= 1.1 and 5 ms", "limit": LIMIT, "data": data}
    yield ResultRow(f"{what}: ours / bare FAISS, one query", ours_ms / peer_ms, "ratio", num=len(queries), more=more)
    fast, slow, ratio = paired(lambda: ours(queries), lambda: peer(queries), rounds=5)
    more = {"ours_s": fast, "peer_s": slow, "target": "<= 1.1", "data": data}
    yield ResultRow(f"{what}: ours / bare FAISS, batch of {len(queries)}", ratio, "ratio", num=len(queries), more=more)
    more = {"peer_recall": theirs, "target": ">= 0.95 where clustered", "data": data}
    yield ResultRow(f"{what}: recall@{TOP}, {data}", found, "share", num=len(queries), more=more)


def _sized(what: str, folder: Path, num: int, seconds: list[float], peak: float | None) -> Iterator[ResultRow]:
    """Yield rows about building, loading and storing."""
    more = {"cpu_s": seconds[1], "peak_mb": peak, "peak": "growth of the resident set, the index included", "target": "<= 90"}
    yield ResultRow(f"{what}: build on one core", seconds[0], "s", more=more)
    mapped, checked = (statistics.median(_load_seconds(folder, verified) for _ in range(3)) for verified in (True, False))
    more = {"with_sha256_s": checked, "target": "<= 0.5"}
    yield ResultRow(f"{what}: load as a map", mapped, "s", more=more)
    stored = sum(file.stat().st_size for file in folder.iterdir())
    yield ResultRow(f"{what}: stored", stored / num, "bytes/entity")


def _load_seconds(folder: Path, verified: bool) -> float:
    started = time.perf_counter()
    index = EntityIndex.load(folder, **EXPECT, verified=verified, threads=1)
    seconds = time.perf_counter() - started
    if not index.read_only:
        raise SystemExit("the index was read, not mapped")
    return seconds


def interleaved(
    ours: Callable[[np.ndarray], object], peer: Callable[[np.ndarray], object], queries: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the median of a single query, ours and the peer's: milliseconds of the thread's CPU time, and by the clock."""
    half = len(queries) // 2
    times: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(ROUNDS):
        for place in range(len(queries)):
            shifted = (place + half) % len(queries)
            times[0].append(latency(ours, queries[place : place + 1]))
            times[1].append(latency(peer, queries[shifted : shifted + 1]))
    medians = [tuple(statistics.median(column) for column in zip(*side, strict=True)) for side in times]
    return medians[0], medians[1]


def latency(search: Callable[[np.ndarray], object], query: np.ndarray) -> tuple[float, float]:
    started = time.perf_counter(), time.thread_time()
    search(query)
    return 1000 * (time.thread_time() - started[1]), 1000 * (time.perf_counter() - started[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("num", type=int)
    parser.add_argument("kinds", nargs="+", choices=("flat", "ivf", "hnsw", "pq"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    for each in asked.kinds:
        for line in measure_kind(each, *clustered(asked.num), large=asked.num >= 200_000):
            print(f"{line.name:58s} {line.value:12.3f} {line.unit} {dict(line.more)}")
