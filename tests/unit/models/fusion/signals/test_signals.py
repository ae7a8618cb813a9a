"""The signal store: round trip, size, atomic shards, and refusal of what does not belong."""

import errno
import json
import os
import resource
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from models.errors import SignalError
from models.fusion.signals import arrays as safetensors_file
from models.fusion.signals import store as signal_store
from models.fusion.signals.record import PAD_LOGPROB, SampleSignals, SignalSpec
from models.fusion.signals.shard import complete_shards, shard_path, write_shard
from models.fusion.signals.store import SignalStore

SPEC = SignalSpec("scholar", "m" * 64, "t" * 64, "c" * 64, "d" * 64, top_k=4, vocab_size=300, kind="ground_truth")
ALIGNED = replace(SPEC, kind="aligned")
FIELDS = ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce", "prompt_ids", "has_teacher")


def make_sample(id_: str, tokens: int, *, seed: int, spec: SignalSpec = SPEC, prompt: int = 3) -> SampleSignals:
    rng = np.random.default_rng(seed)
    shape = (tokens, spec.top_k)
    aligned = spec.kind == "aligned"
    return SampleSignals(
        id=id_,
        token_ids=rng.integers(0, spec.vocab_size, tokens, dtype=np.uint32),
        topk_ids=rng.integers(0, spec.vocab_size, shape, dtype=np.uint32),
        topk_logprobs=-np.sort(rng.exponential(2, shape), axis=1).astype(np.float16),
        tail=rng.uniform(-18, 0, tokens).astype(np.float16),
        ce=rng.exponential(1, tokens).astype(np.float32),
        prompt_ids=rng.integers(0, spec.vocab_size, prompt, dtype=np.uint32) if aligned else None,
        has_teacher=rng.random(tokens) > 0.5 if aligned else None,
    )


def make_shards(folder: Path, *, spec: SignalSpec = SPEC, shards: int = 3, per_shard: int = 5) -> list[SampleSignals]:
    samples = [make_sample(f"row-{i}", 1 + 3 * i % 7, seed=i, spec=spec, prompt=i % 4) for i in range(shards * per_shard)]
    for index in range(shards):
        write_shard(folder, index, spec, samples[index * per_shard : (index + 1) * per_shard])
    return samples


def assert_equal(found: SampleSignals, expected: SampleSignals) -> None:
    assert found.id == expected.id
    for name in FIELDS:
        a, b = getattr(found, name), getattr(expected, name)
        if b is None:
            assert a is None
        else:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("spec", [SPEC, ALIGNED, replace(SPEC, vocab_size=70_000), replace(SPEC, top_k=0)])
def test_samples_come_back_bit_for_bit(tmp_path, spec):
    samples = make_shards(tmp_path, spec=spec)
    store = SignalStore.open(tmp_path)
    assert store.spec == spec
    assert tuple(store.ids) == tuple(s.id for s in samples)
    assert len(store) == 15
    assert store.num_tokens == sum(s.num_tokens for s in samples)
    for sample in samples:
        assert_equal(store[sample.id], sample)
        assert store[sample.id].nll == pytest.approx(sample.ce.astype(np.float64).sum())


@pytest.mark.parametrize("spec", [SPEC, ALIGNED, replace(ALIGNED, top_k=0)])
def test_gather_equals_reading_one_by_one(tmp_path, spec):
    make_shards(tmp_path, spec=spec)
    store = SignalStore.open(tmp_path)
    # Out of order, across shards, neighbours on disk, one twice.
    ids = ["row-12", "row-3", "row-4", "row-5", "row-6", "row-0", "row-12", "row-11"]
    batch = store.gather(ids)
    assert batch.ids == tuple(ids)
    for name in FIELDS:
        parts = [getattr(store[id_], name) for id_ in ids]
        found = getattr(batch, name)
        if parts[0] is None:
            assert found is None
            continue
        assert found.dtype == parts[0].dtype
        np.testing.assert_array_equal(found, np.concatenate(parts), err_msg=name)
        assert found.flags.writeable
    np.testing.assert_array_equal(np.diff(batch.offsets), [store[i].num_tokens for i in ids])
    if spec.kind == "aligned":
        np.testing.assert_array_equal(np.diff(batch.prompt_offsets), [len(store[i].prompt_ids) for i in ids])


def test_rows_of_two_shards_are_no_neighbours(tmp_path):
    """The second sample of shard 1 begins at the row where the first of shard 0 ends."""
    for index in range(2):
        write_shard(tmp_path, index, SPEC, [make_sample(f"{index}-{i}", 3, seed=10 * index + i) for i in range(2)])
    store = SignalStore.open(tmp_path)
    batch = store.gather(["0-0", "1-1"])
    np.testing.assert_array_equal(batch.ce, np.concatenate([store["0-0"].ce, store["1-1"].ce]))
    np.testing.assert_array_equal(store["1-1"].ce, make_sample("1-1", 3, seed=11).ce)


def test_gather_of_nothing_is_empty(tmp_path):
    make_shards(tmp_path)
    batch = SignalStore.open(tmp_path).gather([])
    assert batch.offsets.tolist() == [0]
    assert batch.topk_ids.shape == (0, 4)


def test_store_reads_on_when_more_shards_than_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(signal_store, "max_maps", lambda: 2)
    samples = make_shards(tmp_path, shards=6, per_shard=2)
    store = SignalStore.open(tmp_path)
    early = store["row-0"]
    store.gather(list(store.ids))
    assert len(store._reader._files) == 2
    for sample in samples:  # mapped or not
        assert_equal(store[sample.id], sample)
    assert_equal(early, samples[0])


@pytest.mark.parametrize(("vocab_size", "limit"), [(65_536, 50), (65_537, 72), (152_000, 72)])
def test_bytes_per_token_stay_in_the_budget(tmp_path, vocab_size, limit):
    """Everything on disk counts: both files, headers, offsets, ids of a usual length."""
    spec = replace(SPEC, top_k=10, vocab_size=vocab_size)
    for index in range(2):
        samples = [make_sample(f"alpaca-gpt4-{index:03d}{i:05d}", 48, seed=i, spec=spec) for i in range(256)]
        write_shard(tmp_path, index, spec, samples)
    store = SignalStore.open(tmp_path)
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert store.bytes_per_token() == pytest.approx(on_disk / (512 * 48))
    assert store.bytes_per_token() <= limit


def test_files_are_plain_safetensors_with_narrow_ids(tmp_path):
    make_shards(tmp_path, shards=1)
    arrays = load_file(shard_path(tmp_path, 0))
    assert arrays["topk_ids"].dtype == np.uint16
    assert arrays["topk_logprobs"].dtype == np.float16
    np.testing.assert_array_equal(arrays["topk_ids"][0], SignalStore.open(tmp_path)["row-0"].topk_ids[0])
    assert load_file(write_shard(tmp_path / "wide", 0, replace(SPEC, vocab_size=65_537), []))["token_ids"].dtype == np.uint32


def test_same_samples_give_the_same_bytes(tmp_path):
    make_shards(tmp_path / "a")
    make_shards(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_shards_are_added_and_replaced(tmp_path):
    make_shards(tmp_path, shards=1)
    assert len(SignalStore.open(tmp_path)) == 5
    write_shard(tmp_path, 7, SPEC, [make_sample("late", 3, seed=90)])
    assert list(complete_shards(tmp_path)) == [0, 7]
    assert "late" in SignalStore.open(tmp_path)
    write_shard(tmp_path, 7, SPEC, [make_sample("later", 3, seed=91)])
    store = SignalStore.open(tmp_path)
    assert "late" not in store
    assert "later" in store


def test_shards_are_ordered_by_number(tmp_path):
    for index in (100_000, 99_999, 2):
        write_shard(tmp_path, index, SPEC, [make_sample(f"n{index}", 2, seed=index)])
    assert list(complete_shards(tmp_path)) == [2, 99_999, 100_000]


def test_shard_without_samples_is_complete(tmp_path):
    write_shard(tmp_path, 0, ALIGNED, [])
    assert len(SignalStore.open(tmp_path)) == 0


# --- killed or refused by the disk --------------------------------------------------------------------------------------------


def test_full_disk_names_file_and_bytes_and_leaves_nothing(tmp_path, monkeypatch):
    make_shards(tmp_path, shards=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors_file.os, "fsync", refuse)
    with pytest.raises(
        SignalError, match=r"shard-00001\.safetensors` cannot be written \(\d{3,} bytes wanted\): No space left.*Free space"
    ):
        write_shard(tmp_path, 1, SPEC, [make_sample("x", 4, seed=1)])
    with pytest.raises(SignalError):  # an existing shard survives a refused rewrite
        write_shard(tmp_path, 0, SPEC, [make_sample("x", 4, seed=1)])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_rewrite_killed_between_the_renames_leaves_no_shard(tmp_path, monkeypatch):
    make_shards(tmp_path, shards=2)
    replace_file = Path.replace

    def kill(path: Path, target: Path) -> Path:
        if target.suffix == ".safetensors":
            raise OSError(errno.EIO, "killed")
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", kill)
    with pytest.raises(SignalError, match="killed"):
        write_shard(tmp_path, 1, SPEC, [make_sample("new", 4, seed=1)])
    assert list(complete_shards(tmp_path)) == [0]
    assert len(SignalStore.open(tmp_path)) == 5


def test_file_size_limit_of_the_system_is_reported(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(SignalError, match="File too large"):
            write_shard(tmp_path, 0, SPEC, [make_sample("x", 500, seed=1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_writer_are_ignored(tmp_path):
    make_shards(tmp_path, shards=1)
    (tmp_path / ".shard-00001.safetensors.0123456789ab.part").write_bytes(b"half")
    (tmp_path / "shard-00001.json").write_text('["row-9"]')  # renamed first; the arrays never came
    assert len(SignalStore.open(tmp_path)) == 5
    write_shard(tmp_path, 1, SPEC, [make_sample("row-9", 4, seed=1)])
    assert len(SignalStore.open(tmp_path)) == 6
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("cut", [1, 100, None])
def test_truncated_shard_names_file_and_sizes(tmp_path, cut):
    make_shards(tmp_path, shards=2)
    path = shard_path(tmp_path, 1)
    full = path.stat().st_size
    length = full - cut if cut else 20
    path.write_bytes(path.read_bytes()[:length])
    wanted = str(full) if cut else r"at least \d+"
    with pytest.raises(SignalError, match=rf"shard-00001\.safetensors` must have {wanted} bytes, but has {length} \(truncated"):
        SignalStore.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"abc", "its 3 bytes have no header"),
        (struct.pack("<Q", 9) + b"not json!", "header cannot be read"),
        (b"\xff" * 40, "have no header"),
    ],
)
def test_foreign_file_is_refused(tmp_path, content, reason):
    shard_path(tmp_path, 0).write_bytes(content)
    with pytest.raises(SignalError, match=reason):
        SignalStore.open(tmp_path)


def test_ids_must_be_the_ones_written_with_the_arrays(tmp_path):
    make_shards(tmp_path, shards=1)
    ids = tmp_path / "shard-00000.json"
    names = json.loads(ids.read_text())
    ids.write_text(json.dumps(names[::-1]))
    with pytest.raises(SignalError, match=r"shard-00000\.json` must have the sha256"):
        SignalStore.open(tmp_path)
    ids.unlink()
    with pytest.raises(SignalError, match="is missing"):
        SignalStore.open(tmp_path)


# --- belongs together -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"), [("tokenizer_digest", "x" * 64), ("corpus_digest", "y" * 64), ("top_k", 10), ("kind", "response")]
)
def test_other_inputs_are_refused_by_field(tmp_path, field, value):
    make_shards(tmp_path)
    stored = getattr(SPEC, field)
    with pytest.raises(SignalError, match=f"`{field}` of the signal store `.*` must be {value!r}, but is {stored!r}"):
        SignalStore.open(tmp_path, expect={"source": "scholar", field: value})
    SignalStore.open(tmp_path, expect={field: stored})


def test_unknown_expectation_is_refused(tmp_path):
    make_shards(tmp_path)
    with pytest.raises(SignalError, match="`tokeniser` is not a field"):
        SignalStore.open(tmp_path, expect={"tokeniser": 1})


def test_shards_of_different_specs_are_refused(tmp_path):
    make_shards(tmp_path, shards=1)
    write_shard(tmp_path, 1, replace(SPEC, corpus_digest="e" * 64), [make_sample("x", 2, seed=1)])
    with pytest.raises(
        SignalError, match=r"`corpus_digest` of the signal store `.*shard-00001\.safetensors` must be 'd+', but is 'e+'"
    ):
        SignalStore.open(tmp_path)


def test_an_id_in_two_shards_is_refused(tmp_path):
    make_shards(tmp_path, shards=1)
    write_shard(tmp_path, 3, SPEC, [make_sample("row-2", 2, seed=1)])
    with pytest.raises(
        SignalError, match=r"`row-2` must occur once in .* in `shard-00000.safetensors` and `shard-00003.safetensors`"
    ):
        SignalStore.open(tmp_path)


def test_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(SignalError, match="must hold at least one complete shard"):
        SignalStore.open(tmp_path / "nowhere")


def test_unknown_id_is_named(tmp_path):
    make_shards(tmp_path)
    store = SignalStore.open(tmp_path)
    for read in (store.__getitem__, lambda id_: store.gather([id_])):
        with pytest.raises(SignalError, match=r"`ghost` is not in the signal store .* \(15 samples, source `scholar`\)"):
            read("ghost")


def test_views_are_read_only(tmp_path):
    make_shards(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        SignalStore.open(tmp_path)["row-1"].ce[0] = 1


GOOD = make_sample("bad-row", 3, seed=5)
DESCENDING = np.array([[-1, -2, -3, -1]] * 3, np.float16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tail": GOOD.tail[:2]}, r"`tail` must have the shape \(3,\), but has \(2,\)"),
        ({"topk_ids": GOOD.topk_ids[:, :3]}, r"`topk_ids` must have the shape \(3, 4\), but has \(3, 3\)"),
        ({"ce": np.array([1, np.nan, 2], np.float32)}, "`ce` must be finite"),
        ({"topk_logprobs": np.full((3, 4), -1e6, np.float32)}, "`topk_logprobs` must be finite as float16"),
        ({"token_ids": np.array([1, 300, 2], np.uint32)}, "`token_ids` must be from 0 to 299, but has 1 to 300"),
        ({"topk_logprobs": DESCENDING}, "descending in each row"),
        ({"topk_logprobs": np.full((3, 4), 2.5, np.float16)}, "must be logarithms of probabilities"),
    ],
)
def test_broken_sample_is_named_and_nothing_written(tmp_path, change, reason):
    with pytest.raises(SignalError, match=f"Sample `bad-row` of source `scholar`: .*{reason}"):
        write_shard(tmp_path, 0, SPEC, [make_sample("fine", 2, seed=1), replace(GOOD, **change)])
    assert list(tmp_path.iterdir()) == []


def test_repeated_id_and_missing_aligned_fields_are_refused(tmp_path):
    with pytest.raises(SignalError, match="its id must be unique in the shard"):
        write_shard(tmp_path, 0, SPEC, [GOOD, GOOD])
    with pytest.raises(SignalError, match="must have `prompt_ids` and `has_teacher`"):
        write_shard(tmp_path, 0, ALIGNED, [GOOD])


def test_padded_slots_are_allowed(tmp_path):
    logprobs = np.array([[-0.1, -3, PAD_LOGPROB, PAD_LOGPROB]] * 3, np.float16)
    write_shard(tmp_path, 0, SPEC, [replace(GOOD, topk_logprobs=logprobs)])
    np.testing.assert_array_equal(SignalStore.open(tmp_path)["bad-row"].topk_logprobs, logprobs)


def test_spec_round_trip_and_refusals():
    assert SignalSpec.from_json(SPEC.to_json()) == SPEC
    assert SPEC.to_json() == SignalSpec(**dict(reversed(json.loads(SPEC.to_json()).items()))).to_json()
    with pytest.raises(SignalError, match="must have the fields"):
        SignalSpec.from_json('{"source": "a"}')
    with pytest.raises(SignalError, match="must be JSON"):
        SignalSpec.from_json("{")
    with pytest.raises(SignalError, match=r"`kind` of a signal store must be one of .* but is 'other'"):
        replace(SPEC, kind="other")
    with pytest.raises(SignalError, match="they are 4 and 0"):
        replace(SPEC, vocab_size=0)
