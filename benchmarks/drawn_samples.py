"""Stores of drawn signals, of any size: few distinct samples under many ids, so that drawing takes no time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.fusion.signals.record import SampleSignals, SignalKind, SignalSpec
from models.fusion.signals.shard import write_shard

DISTINCT = 256


def spec_of(*, vocab_size: int, kind: SignalKind, top_k: int = 10) -> SignalSpec:
    """Return a spec for a store that belongs to no model."""
    return SignalSpec("drawn", "m", "t", "c", "d", top_k, vocab_size, kind)


def draw(spec: SignalSpec, *, tokens: int, prompt: int = 20, distinct: int = DISTINCT) -> list[SampleSignals]:
    """Draw `distinct` samples of `tokens` response tokens on average (between a half and one and a half of it)."""
    rng = np.random.default_rng(0)
    return [_one(spec, rng, int(rng.integers(tokens // 2, tokens * 3 // 2 + 1)), prompt) for _ in range(distinct)]


def named(samples: list[SampleSignals], num: int) -> Iterator[SampleSignals]:
    """Iterate over `num` samples with ids of their own."""
    return (replace(samples[i % len(samples)], id=f"alpaca-gpt4-{i:08d}") for i in range(num))


def write_store(folder: Path, spec: SignalSpec, samples: Iterator[SampleSignals], *, num: int, shard_size: int = 256) -> int:
    """Write `num` samples in shards; returns how many response tokens they have."""
    tokens = 0

    def counted(size: int) -> Iterator[SampleSignals]:
        nonlocal tokens
        for _ in range(size):
            sample = next(samples)
            tokens += sample.num_tokens
            yield sample

    for index, start in enumerate(range(0, num, shard_size)):
        write_shard(folder, index, spec, counted(min(shard_size, num - start)))
    return tokens


def _one(spec: SignalSpec, rng: np.random.Generator, tokens: int, prompt: int) -> SampleSignals:
    k, aligned = spec.top_k, spec.kind == "aligned"
    probs = np.sort(rng.dirichlet(np.ones(k), tokens), axis=1)[:, ::-1] * 0.9 + 1e-6
    # Distinct ids in a row, as a top-k has them.
    topk_ids = (rng.integers(0, spec.vocab_size, (tokens, 1)) + np.arange(k) * 977) % spec.vocab_size
    return SampleSignals(
        id="",
        token_ids=rng.integers(0, spec.vocab_size, tokens).astype(np.uint32),
        topk_ids=topk_ids.astype(np.uint32),
        topk_logprobs=np.log(probs).astype(np.float16),
        tail=np.full(tokens, np.log(0.1), np.float16),
        ce=rng.random(tokens).astype(np.float32),
        prompt_ids=rng.integers(0, spec.vocab_size, prompt).astype(np.uint32) if aligned else None,
        has_teacher=rng.random(tokens) > 0.1 if aligned else None,
    )
