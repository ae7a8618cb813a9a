"""Any samples, cut into any shards, come back from the store as they were."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fusion.signals.record import SampleSignals, SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore


@st.composite
def stores(draw: st.DrawFn) -> tuple[SignalSpec, list[list[SampleSignals]]]:
    kind = draw(st.sampled_from(["ground_truth", "response", "aligned"]))
    spec = SignalSpec("s", "m", "t", "c", "d", draw(st.integers(0, 5)), draw(st.sampled_from([1, 300, 65_536, 65_537])), kind)
    names = draw(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=9))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    cuts = sorted(draw(st.lists(st.integers(0, len(names)), max_size=3)))
    samples = [_sample(name, spec, draw(st.integers(1, 9)), draw(st.integers(0, 4)), rng) for name in names]
    return spec, [samples[a:b] for a, b in zip([0, *cuts], [*cuts, len(names)], strict=True)]


def _sample(name: str, spec: SignalSpec, tokens: int, prompt: int, rng: np.random.Generator) -> SampleSignals:
    shape = (tokens, spec.top_k)
    aligned = spec.kind == "aligned"
    return SampleSignals(
        id=name,
        token_ids=rng.integers(0, spec.vocab_size, tokens, dtype=np.uint32),
        topk_ids=rng.integers(0, spec.vocab_size, shape, dtype=np.uint32),
        topk_logprobs=-np.sort(rng.exponential(5, shape), axis=1).astype(np.float16),
        tail=-rng.exponential(5, tokens).astype(np.float16),
        ce=rng.exponential(2, tokens).astype(np.float32),
        prompt_ids=rng.integers(0, spec.vocab_size, prompt, dtype=np.uint32) if aligned else None,
        has_teacher=rng.random(tokens) > 0.5 if aligned else None,
    )


@given(stores(), st.data())
@settings(deadline=None, max_examples=60)
def test_round_trip_and_gather(made, data):
    spec, shards = made
    with tempfile.TemporaryDirectory() as name:
        for index, samples in enumerate(shards):
            write_shard(Path(name), index, spec, samples)
        store = SignalStore.open(Path(name))
        by_id = {s.id: s for shard in shards for s in shard}
        assert list(store.ids) == list(by_id)
        picked = data.draw(st.lists(st.sampled_from(list(by_id)), max_size=12)) if by_id else []
        batch = store.gather(picked)
        for position, id_ in enumerate(picked):
            rows = slice(batch.offsets[position], batch.offsets[position + 1])
            for field in ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce", "has_teacher"):
                expected = getattr(by_id[id_], field)
                if expected is not None:
                    np.testing.assert_array_equal(getattr(store[id_], field), expected)
                    np.testing.assert_array_equal(getattr(batch, field)[rows], expected)
            if spec.kind == "aligned":
                prompt = slice(batch.prompt_offsets[position], batch.prompt_offsets[position + 1])
                np.testing.assert_array_equal(batch.prompt_ids[prompt], by_id[id_].prompt_ids)
        del store, batch
