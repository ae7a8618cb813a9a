"""Paired timing: two functions in turn, so that a drifting machine hits both."""

import statistics
import time
from collections.abc import Callable


def cpu_seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def paired(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = 5) -> tuple[float, float, float]:
    """Return median seconds of ours, of the peer, and the median of the ratios ours/peer, round by round (one warm-up)."""
    times = [(cpu_seconds(ours), cpu_seconds(peer)) for _ in range(rounds + 1)][1:]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )
