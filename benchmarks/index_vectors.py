"""Generated entity vectors and queries, the truth about them, and how much of it was found."""

from collections.abc import Callable

import numpy as np

DIM, QUERIES, WIDTH = 384, 200, 0.05
# A smooth surface of so many dimensions: no clusters that cells could follow, the hard case for IVF.
INNER, BEND, NOISE = 16, 1.5, 0.02
_BLOCK = 65_536


def clustered(num: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors [num, DIM] around sqrt(num) centres, and queries near entities."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((round(num**0.5), DIM), dtype=np.float32))

    def draw(count: int) -> np.ndarray:
        near = centres[rng.integers(len(centres), size=count)]
        return near + WIDTH * rng.standard_normal((count, DIM), dtype=np.float32)

    e_reps = filled(num, draw)
    chosen = e_reps[rng.integers(num, size=QUERIES)]
    return e_reps, unit(chosen + WIDTH * rng.standard_normal(chosen.shape, dtype=np.float32))


def spread(num: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors [num, DIM] on a curved surface of INNER dimensions without clusters, and queries on it."""
    rng = np.random.default_rng(seed)
    wide = BEND * rng.standard_normal((INNER, DIM), dtype=np.float32) / INNER**0.5
    turned = rng.standard_normal((DIM, DIM), dtype=np.float32) / DIM**0.5

    def draw(count: int) -> np.ndarray:
        inner = rng.standard_normal((count, INNER), dtype=np.float32)
        return np.tanh(inner @ wide) @ turned + NOISE * rng.standard_normal((count, DIM), dtype=np.float32)

    return filled(num, draw), unit(draw(QUERIES))


def filled(num: int, draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return unit vectors [num, DIM], drawn block by block."""
    vectors = np.empty((num, DIM), dtype=np.float32)
    for start in range(0, num, _BLOCK):
        block = vectors[start : start + _BLOCK]
        block[:] = unit(draw(len(block)))
    return vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def nearest(e_reps: np.ndarray, queries: np.ndarray, top: int) -> np.ndarray:
    """Return the true best rows [B, top] of each query, by all inner products, block by block."""
    scores = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(e_reps), _BLOCK):
        block = queries @ e_reps[start : start + _BLOCK].T
        scores = np.concatenate([scores, block], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(start + np.arange(block.shape[1]), block.shape)], axis=1)
        best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows


def recall(found: np.ndarray, best: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), best.tolist(), strict=True)]))
