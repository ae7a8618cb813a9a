"""Advantage per token: who teaches which position, by hand; and its limit, the advantage of the whole text."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models.errors import AlignmentError
from models.fusion.alignment.target_signals import AlignItem, ChatTokenizer, align_shard, build_vocab_map
from models.fusion.alignment.token_advantage import align_by_token, stretch_costs
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.alignment import Coverage
from models.tokenization.chat import PRESETS
from models.tokenization.codec import EncodedText, TokenCodec

ASK = (Message("user", "Where is the bell?"),)
TEXT = "the town had a bell"
TOKEN = AlignmentParams(advantage="token")


@pytest.fixture(scope="module")
def target(pico_tokenizer) -> ChatTokenizer:
    return ChatTokenizer(TokenCodec(pico_tokenizer, source="target"), PRESETS["plain"])


@pytest.fixture(scope="module")
def single() -> ChatTokenizer:
    """One token a byte."""
    vocab = {"</s>": 0, **{c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=1)}}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return ChatTokenizer(
        TokenCodec(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"), source="s"), PRESETS["plain"]
    )


def as_source(backend: Tokenizer, *, template: str) -> ChatTokenizer:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    return ChatTokenizer(TokenCodec(tokenizer, source="s"), PRESETS[template])


def labels_of(side: ChatTokenizer, text: str) -> np.ndarray:
    return np.append(side.codec.encode_responses([text], lead=side.lead)[0].ids, side.codec.eos_id)


def signals(side: ChatTokenizer, ce: np.ndarray | float, *, text: str = TEXT) -> SampleSignals:
    """A source that gives its own token exp(−ce), and the rest to the tail."""
    labels = labels_of(side, text).astype(np.uint32)
    own = np.broadcast_to(np.float32(ce), labels.shape).copy()
    other = np.where(labels == 5, 6, 5).astype(np.uint32)
    top = np.stack([-own, np.full(len(labels), PAD_LOGPROB)], axis=1).astype(np.float16)
    tail = np.log(np.maximum(1 - np.exp(-own), 1e-8)).astype(np.float16)
    return SampleSignals("x", labels, np.stack([labels, other], axis=1), top, tail, own)


def contest(parties: dict[str, tuple[ChatTokenizer, np.ndarray | float]], *, text: str = TEXT) -> list[AlignItem]:
    return [AlignItem(ASK, text, name, signals(side, ce, text=text)) for name, (side, ce) in parties.items()]


def merge(
    parties: dict[str, tuple[ChatTokenizer, np.ndarray | float]], target: ChatTokenizer, cfg: AlignmentParams = TOKEN
) -> tuple[SampleSignals, dict[str, Coverage]]:
    sides = {name: side for name, (side, _) in parties.items()}
    maps = {name: build_vocab_map(side.codec, target.codec, cfg) for name, side in sides.items()}
    made = align_by_token([contest(parties)], target=target, sources=sides, maps=maps, cfg=cfg)
    return made.samples[0], made.coverage


def test_every_position_has_the_row_of_the_source_that_is_best_there(target: ChatTokenizer) -> None:
    size = len(labels_of(target, TEXT))
    early = np.where(np.arange(size) < 3, 0.1, 2.0)
    late = np.where(np.arange(size) < 3, 1.0, 0.5)
    sample, coverage = merge({"early": (target, early), "late": (target, late)}, target)
    assert sample.ce.tolist() == pytest.approx([0.1] * 3 + [0.5] * (size - 3))
    assert sample.topk_logprobs[:, 0].tolist() == pytest.approx((-sample.ce).tolist(), abs=1e-3)
    assert np.exp(sample.tail.astype(float)).tolist() == pytest.approx((1 - np.exp(-sample.ce)).tolist(), abs=2e-3)
    assert coverage == {"early": Coverage(3, 3), "late": Coverage(size - 3, size - 3)}
    assert sample.has_teacher.all() and sample.token_ids.tolist() == labels_of(target, TEXT).tolist()


def test_other_tokens_are_compared_per_byte(target: ChatTokenizer, single: ChatTokenizer) -> None:
    """0.3 nats a byte lose against a token of 3 bytes with 0.8 nats, and win against one of 2 bytes."""
    (ours,) = target.codec.encode_responses([TEXT])
    lengths = np.append(np.diff(ours.starts), 1)
    sample, coverage = merge({"words": (target, 0.8), "bytes": (single, 0.3)}, target)
    by_bytes = 0.3 * lengths < 0.8
    assert by_bytes.any() and not by_bytes.all()
    assert coverage["bytes"].num_aligned == by_bytes.sum() and coverage["words"].num_aligned == (~by_bytes).sum()
    # The label gets the probability of all its bytes (`label_path`).
    wanted = np.where(by_bytes, np.exp(-0.3 * lengths), np.exp(-0.8))
    at_label = np.where(sample.topk_ids == sample.token_ids[:, None], np.exp(sample.topk_logprobs.astype(float)), 0).max(axis=1)
    assert at_label.tolist() == pytest.approx(wanted.tolist(), abs=2e-3)


def test_a_source_without_a_row_there_is_passed_over(target: ChatTokenizer, single: ChatTokenizer) -> None:
    """The target writes single bytes: the source of words has rows only where its words begin, however sure it is."""
    parties = {"words": (target, 0.001), "bytes": (single, 5.0)}
    sides = {name: side for name, (side, _) in parties.items()}
    maps = {name: build_vocab_map(side.codec, single.codec, TOKEN) for name, side in sides.items()}
    made = align_by_token([contest(parties)], target=single, sources=sides, maps=maps, cfg=TOKEN)
    words = target.codec.encode_responses([TEXT])[0].starts
    begins = np.isin(np.arange(len(TEXT) + 1), words)
    assert made.samples[0].has_teacher.all()
    assert (made.samples[0].ce < 1).tolist() == begins.tolist()
    assert made.coverage == {"words": Coverage(begins.sum(), begins.sum()), "bytes": Coverage((~begins).sum(), (~begins).sum())}


@pytest.mark.parametrize("fallback", ["mask", "next_token"])
def test_positions_nobody_teaches_are_counted_once(fallback: str, target: ChatTokenizer, single: ChatTokenizer) -> None:
    cfg = TOKEN.model_copy(update={"fallback": fallback})
    sides = {"one": target, "two": target}
    maps = {name: build_vocab_map(target.codec, single.codec, cfg) for name in sides}
    items = contest({"one": (target, 1.0), "two": (target, 1.0)})
    made = align_by_token([items], target=single, sources=sides, maps=maps, cfg=cfg)
    taught = np.isin(np.arange(len(TEXT) + 1), target.codec.encode_responses([TEXT])[0].starts)
    sample, missing = made.samples[0], int((~taught).sum())
    assert made.coverage["two"] == Coverage(), "the first of equals wins everything"
    assert made.coverage["one"] == Coverage(
        len(taught), int(taught.sum()), num_fallback=missing if fallback == "next_token" else 0
    )
    assert sample.has_teacher.tolist() == (taught.tolist() if fallback == "mask" else [True] * len(taught))
    if fallback == "next_token":
        assert (sample.topk_ids[~taught, 0] == sample.token_ids[~taught]).all()
        assert (sample.tail[~taught] == np.float16(TAIL_FLOOR)).all()


def test_a_window_as_long_as_the_text_is_the_advantage_of_the_text(target: ChatTokenizer, single: ChatTokenizer) -> None:
    size = len(labels_of(target, TEXT))
    uneven = np.where(np.arange(size) < 3, 0.1, 2.0)
    even = 0.9 * uneven.sum() / (len(TEXT) + 1)  # a little less in all
    parties = {"uneven": (target, uneven), "even": (single, even)}
    for window, expected in ((0, {"uneven", "even"}), (size, {"even"})):
        cfg = AlignmentParams(advantage="token", advantage_window=window)
        sample, coverage = merge(parties, target, cfg)
        assert {name for name, counts in coverage.items() if counts.num_aligned} == expected
    maps = {"even": build_vocab_map(single.codec, target.codec, TOKEN)}
    (whole,) = align_shard(
        contest(parties)[1:], target=target, sources={"even": single}, maps=maps, cfg=AlignmentParams()
    ).samples
    for name in ("topk_ids", "topk_logprobs", "tail", "ce", "has_teacher", "prompt_ids"):
        assert np.array_equal(getattr(whole, name), getattr(sample, name)), name


def test_a_cut_text_has_no_end(target: ChatTokenizer) -> None:
    item = contest({"one": (target, 1.0)})[0]
    names = ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce")
    cut = replace(item, signals=replace(item.signals, **{n: getattr(item.signals, n)[:-1] for n in names}), ended=False)
    made = align_by_token([[cut]], target=target, sources={"one": target}, maps={"one": None}, cfg=TOKEN)
    assert target.codec.eos_id not in made.samples[0].token_ids
    assert made.coverage["one"] == Coverage(len(cut.signals.ce), len(cut.signals.ce), num_cut=1)


def test_a_source_that_loses_text_does_not_compete(target: ChatTokenizer) -> None:
    backend = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "the": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    lossy = as_source(backend, template="text")
    sample, coverage = merge({"lossy": (lossy, 0.0), "own": (target, 3.0)}, target)
    assert set(coverage) == {"own"} and (sample.ce == 3.0).all()
    with pytest.raises(AlignmentError, match=r"`x` byte for byte, but none of \['lossy'\] does"):
        merge({"lossy": (lossy, 0.0)}, target)


def encoded(lengths: list[int], lead: int) -> EncodedText:
    ends = np.cumsum(lengths).astype(np.int32) - np.int32(lead)
    return EncodedText(np.zeros(len(lengths), np.int32), ends, np.zeros(len(lengths), np.bool_), int(ends[-1]), lead)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), size=st.integers(2, 20), window=st.integers(0, 25))
def test_costs_add_up_to_the_nats_of_the_text(data: st.DataObject, size: int, window: int) -> None:
    """Whatever the tokens, lead and window: costs × bytes of disjoint stretches are the source's sum."""

    def side() -> EncodedText:
        lead = data.draw(st.integers(0, 2))
        cuts = sorted(data.draw(st.sets(st.integers(-lead + 1, size - 1), max_size=size)))
        edges = [-lead, *cuts, size]
        return encoded(np.diff(edges).tolist(), lead)

    target, source = side(), side()
    ce = np.array(data.draw(st.lists(st.floats(0, 10), min_size=len(source.ids) + 1, max_size=len(source.ids) + 1)), np.float32)
    costs = stretch_costs(target, source, ce, ended=True, window=window)
    edges = np.append(np.maximum(target.starts, 0), size + 1)
    assert len(costs) == len(target.ids) + 1 and (costs >= 0).all()
    if window == 0:
        assert (costs * np.diff(edges)).sum() == pytest.approx(ce.sum(dtype=np.float64), abs=1e-4)
    if window >= len(costs):
        assert costs == pytest.approx(ce.sum(dtype=np.float64) / (size + 1), abs=1e-4)
