"""The signal store: bytes a token, writing, random reading of batches."""

import tempfile
import time
from pathlib import Path

import numpy as np

from models.fusion.signal import SampleSignals, SignalSpec, SignalStore, write_shard
from models.reporting.results import ResultRow

SAMPLES, TOKENS, K, V = 512, 128, 10, 32000


def measure() -> list[ResultRow]:
    rng = np.random.default_rng(0)
    samples = [_sample(rng, f"s{i}") for i in range(SAMPLES)]
    spec = SignalSpec("source", "m", "t", "c", "d", K, V, "ground_truth")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.process_time()
        for index in range(8):
            part = samples[index * SAMPLES // 8 : (index + 1) * SAMPLES // 8]
            write_shard(folder, index, spec, part)
        written = time.process_time() - started
        store = SignalStore.open(folder)
        ids = [store.ids[i] for i in rng.integers(0, SAMPLES, 4096)]
        started = time.process_time()
        read = sum(len(store.gather(ids[i : i + 32]).token_ids) for i in range(0, len(ids), 32))
        seconds = time.process_time() - started
        back = store["s7"]
        if not np.array_equal(back.topk_ids, samples[7].topk_ids):
            raise SystemExit("the store does not give back what was written")
        size = sum(f.stat().st_size for f in folder.iterdir()) / (SAMPLES * TOKENS)
    return [
        ResultRow("signal store, all files included", size, "bytes/token"),
        ResultRow("signal store, write", SAMPLES * TOKENS / written, "tokens/s"),
        ResultRow("signal store, random batches of 32 samples", read / seconds, "tokens/s"),
    ]


def _sample(rng: np.random.Generator, name: str) -> SampleSignals:
    return SampleSignals(
        id=name,
        token_ids=rng.integers(0, V, TOKENS).astype(np.uint32),
        topk_ids=np.stack([rng.permutation(V)[:K] for _ in range(TOKENS)]).astype(np.uint32),
        topk_logprobs=np.sort(np.log(rng.dirichlet(np.ones(K), TOKENS) * 0.9), axis=1)[:, ::-1].astype(np.float16),
        tail=np.full(TOKENS, np.log(0.1), np.float16),
        ce=rng.random(TOKENS).astype(np.float32),
    )
