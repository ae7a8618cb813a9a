"""`python -m benchmarks.store_memory FOLDER`: open a store, read it twice over in random batches, print speed and memory."""

import gc
import json
import sys
from pathlib import Path

import numpy as np
import psutil

from benchmarks.timing import cpu_seconds
from models.fusion.signals.store import SignalStore

BATCH = 32


def held_mb() -> tuple[float, float]:
    """Return what this process holds, 10⁶ bytes: memory of its own, and pages of files it maps (the system may drop these)."""
    gc.collect()
    info = psutil.Process().memory_info()
    return (info.rss - info.shared) / 1e6, info.shared / 1e6


def main(folder: Path) -> None:
    before, _ = held_mb()
    store = SignalStore.open(folder)
    rng, count = np.random.default_rng(0), 2 * len(store) // BATCH

    def read() -> None:
        for _ in range(count):
            store.gather_at(rng.integers(0, len(store), BATCH))

    read()
    seconds = cpu_seconds(read)
    own, mapped = held_mb()
    speed = count * BATCH * store.num_tokens / len(store) / seconds
    print(json.dumps({"own_mb": own - before, "mapped_mb": mapped, "tokens_per_s": speed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
