"""The signal store: bytes a token, writing, random reading of batches, and memory as the corpus grows tenfold."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.drawn_samples import DISTINCT, draw, named, spec_of, write_store
from benchmarks.peer_store import stored_bytes
from benchmarks.timing import cpu_seconds
from models.fusion.signals.record import SampleSignals, SignalKind
from models.fusion.signals.store import SignalStore
from models.reporting.results import ResultRow

BATCH, BATCHES, ROUNDS = 32, 128, 7
CORPUS = (20_000, 200_000)  # samples of 32 tokens: 31 MB and 310 MB
_ROOT = Path(__file__).resolve().parent.parent


def measure() -> list[ResultRow]:
    return [_size(32_000, "<= 50"), _size(151_936, "<= 72"), _write(), *_reads(), *_growth()]


def _size(vocab_size: int, target: str) -> ResultRow:
    spec = spec_of(vocab_size=vocab_size, kind="ground_truth")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = write_store(folder, spec, named(draw(spec, tokens=128), 512), num=512)
        size = sum(file.stat().st_size for file in folder.iterdir()) / tokens
        if abs(size - SignalStore.open(folder).bytes_per_token()) > 1e-6:
            raise SystemExit("the store counts other bytes than the disk")
    peer = stored_bytes(vocab_size, tokens=128)
    more = {"target": target, "peer": peer.per_slot, "peer_per_real_token": peer.per_token, "peer_form": peer.form}
    return ResultRow(f"signal store, V = {vocab_size:,}, K = 10, all files included", size, "bytes/token", more=more)


def _write() -> ResultRow:
    spec = spec_of(vocab_size=32_000, kind="ground_truth")
    samples = draw(spec, tokens=128)
    cpu, wall = [], []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(ROUNDS):
            started = time.perf_counter(), time.process_time()
            tokens = write_store(Path(name) / str(turn), spec, named(samples, 2048), num=2048)
            wall.append(tokens / (time.perf_counter() - started[0]))
            cpu.append(tokens / (time.process_time() - started[1]))
    more = {"target": ">= 500,000", "wall_clock": statistics.median(wall)}
    return ResultRow("signal store, write", statistics.median(cpu), "tokens/s", min(cpu), max(cpu), ROUNDS, more)


def _reads() -> list[ResultRow]:
    kinds: tuple[tuple[SignalKind, int], ...] = (
        ("ground_truth", 16),
        ("ground_truth", 32),
        ("ground_truth", 128),
        ("aligned", 32),
    )
    return [_read(kind, tokens) for kind, tokens in kinds]


def _read(kind: SignalKind, tokens: int) -> ResultRow:
    spec = spec_of(vocab_size=32_000, kind=kind)
    samples = draw(spec, tokens=tokens)
    with tempfile.TemporaryDirectory() as name:
        write_store(Path(name), spec, named(samples, 8192), num=8192)
        store = SignalStore.open(Path(name))
        rng = np.random.default_rng(1)
        batches = [rng.integers(0, len(store), BATCH) for _ in range(BATCHES)]
        for positions in batches[:8]:
            _check(store, positions, samples)
        ids = [store.ids.at(positions) for positions in batches]
        by_place = _speed(store.gather_at, batches, store)
        by_id = _speed(store.gather, ids, store)
    more = {"target": ">= 5,000,000", "by_id": statistics.median(by_id)}
    value = statistics.median(by_place)
    name = f"signal store ({kind}), random batches of {BATCH} samples of {tokens} tokens"
    return ResultRow(name, value, "tokens/s", min(by_place), max(by_place), ROUNDS, more)


def _check(store: SignalStore, positions: np.ndarray, samples: list[SampleSignals]) -> None:
    batch, one = store.gather_at(positions), store[store.ids[int(positions[0])]]
    written = [samples[i % DISTINCT] for i in positions.tolist()]
    for name in ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce", "prompt_ids", "has_teacher"):
        columns = [getattr(sample, name) for sample in written]
        if columns[0] is None:
            continue
        whole = np.array_equal(getattr(batch, name), np.concatenate(columns))
        if not whole or not np.array_equal(getattr(one, name), columns[0]):
            raise SystemExit(f"the store does not give back the `{name}` that was written")


def _speed(read: Callable[..., object], batches: list[object], store: SignalStore) -> list[float]:
    num = sum(len(read(batch).token_ids) for batch in batches)  # type: ignore[attr-defined]
    seconds = [cpu_seconds(lambda: [read(batch) for batch in batches]) for _ in range(ROUNDS)]
    return [num / second for second in seconds]


def _growth() -> list[ResultRow]:
    """Read every sample twice, in random batches, in a process of its own: what it holds afterwards beyond the bare program."""
    spec = spec_of(vocab_size=32_000, kind="ground_truth")
    samples = draw(spec, tokens=32)
    found = []
    for num in CORPUS:
        with tempfile.TemporaryDirectory() as name:
            write_store(Path(name), spec, named(samples, num), num=num)
            disk = sum(file.stat().st_size for file in Path(name).iterdir()) / 1e6
            command = [sys.executable, "-m", "benchmarks.store_memory", name]
            done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout) | {"disk_mb": disk})
    small, large = found
    more = {
        f"{key}_{num}": one[key] for num, one in zip(CORPUS, found, strict=True) for key in ("own_mb", "mapped_mb", "disk_mb")
    }
    each = (large["own_mb"] - small["own_mb"]) * 1e6 / (CORPUS[1] - CORPUS[0])
    whole = {"target": "flat: no signals in memory", "limit": "ids and offsets; the mapped pages belong to the system"}
    return [
        ResultRow("signal store, memory that grows with the corpus (index)", each, "bytes/sample", more=more | whole),
        ResultRow(
            f"signal store, random reading, {CORPUS[1]:,} over {CORPUS[0]:,} samples",
            large["tokens_per_s"] / small["tokens_per_s"],
            "ratio",
            more={
                "target": "flat",
                "small": small["tokens_per_s"],
                "large": large["tokens_per_s"],
                "limit": "the processor's cache: ten times the pages",
            },
        ),
    ]
