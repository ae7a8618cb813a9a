"""Aligned samples end to end: two small tokenizers, signals by hand, every mode and fallback."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from support.alignment import align_sample
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from models.errors import AlignmentError
from models.fusion.alignment.target_signals import AlignItem, ChatTokenizer, align_shard, build_vocab_map
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals, SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.alignment import Coverage, align_starts, first_byte_rows
from models.tokenization.chat import PRESETS
from models.tokenization.codec import TokenCodec

K = 4
ASK = (Message("user", "Where is the bell?"),)
TEXTS = ["The bell is on the hill.", "café 東京 🙂\n", "", "the town had a little bell"]


@pytest.fixture(scope="module")
def target(pico_tokenizer) -> ChatTokenizer:
    return ChatTokenizer(TokenCodec(pico_tokenizer, source="target"), PRESETS["plain"])


@pytest.fixture(scope="module")
def teacher() -> ChatTokenizer:
    """SentencePiece style: `▁`, byte pieces, dummy prefix; other ids, other pieces."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    corpus = ["the hill the bell the town is on the little hill and had a bell there The hill is The bell"] * 5
    backend.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return ChatTokenizer(TokenCodec(tokenizer, source="teacher"), PRESETS["vicuna"])


def signals(chat_tokenizer: ChatTokenizer, text: str, *, seed: int = 0) -> SampleSignals:
    """A sure teacher: 0.5 on its own token, 0.3 on three others, 0.2 in the tail."""
    codec = chat_tokenizer.codec
    (encoded,) = codec.encode_responses([text], lead=chat_tokenizer.lead)
    labels = np.append(encoded.ids, codec.eos_id)
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(np.setdiff1d(np.arange(3, codec.vocab_size), [y]))[:K] for y in labels])
    ids[:, 0] = labels
    rows = np.log(np.tile([0.5, 0.1, 0.1, 0.1], (len(labels), 1)))
    return SampleSignals(
        id=f"x{seed}",
        token_ids=labels.astype(np.uint32),
        topk_ids=ids.astype(np.uint32),
        topk_logprobs=rows.astype(np.float16),
        tail=np.full(len(labels), np.log(0.2), np.float16),
        ce=np.full(len(labels), np.log(2), np.float32),
    )


def align(text: str, *, source: ChatTokenizer, target: ChatTokenizer, cfg: AlignmentParams) -> tuple[SampleSignals, Coverage]:
    item = AlignItem(ASK, text, "s", signals(source, text))
    vocab_map = build_vocab_map(source.codec, target.codec, cfg)
    return align_sample(item, target=target, source=source, vocab_map=vocab_map, cfg=cfg)


def mass(sample: SampleSignals, row: int) -> dict[int, float]:
    pairs = zip(sample.topk_ids[row].tolist(), sample.topk_logprobs[row].tolist(), strict=True)
    return {i: float(np.exp(lp)) for i, lp in pairs if lp > PAD_LOGPROB}


@pytest.mark.parametrize("text", TEXTS)
def test_byte_exact_teaches_exactly_the_rows_that_start_together(
    text: str, teacher: ChatTokenizer, target: ChatTokenizer
) -> None:
    sample, coverage = align(text, source=teacher, target=target, cfg=AlignmentParams(label_path=False))
    ours = target.codec.encode_responses([text], lead=target.lead)[0]
    theirs = teacher.codec.encode_responses([text], lead=teacher.lead)[0]
    rows = align_starts(ours, theirs)
    opening = first_byte_rows(ours, theirs)
    if rows[opening[0]] < 0:  # the templates' leads differ: the first row is taught all the same, in the target's way to begin
        assert sample.has_teacher[opening[0]] and sample.ce[opening[0]] == signals(teacher, text).ce[opening[1]]
        rows[opening[0]] = -2
    assert sample.has_teacher.tolist() == (rows != -1).tolist()
    assert coverage == Coverage(len(ours.ids) + 1, int((rows != -1).sum()), 0, 0)
    assert sample.token_ids.tolist() == [*ours.ids.tolist(), target.codec.eos_id]
    assert sample.prompt_ids.tolist() == target.codec.encode_prompts(["<s>Q: Where is the bell?\nA: "])[0].tolist()
    stored = signals(teacher, text)
    vocab_map = build_vocab_map(teacher.codec, target.codec, AlignmentParams())
    for t in np.flatnonzero(sample.has_teacher & (rows >= 0)):
        wanted: dict[int, float] = {}
        for i, lp in zip(stored.topk_ids[rows[t]], stored.topk_logprobs[rows[t]], strict=True):
            j = int(vocab_map.ids[i])
            wanted[j] = wanted.get(j, 0) + float(np.exp(lp.astype(float)))
        lost = wanted.pop(-1, 0)
        assert mass(sample, t) == pytest.approx(wanted, abs=2e-3)
        assert float(np.exp(sample.tail[t])) == pytest.approx(0.2 + lost, abs=2e-3)
        assert sample.ce[t] == stored.ce[rows[t]]
    assert (sample.ce[~sample.has_teacher] == 0).all()


def test_end_token_teaches_the_end_token(teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    sample, _ = align("", source=teacher, target=target, cfg=AlignmentParams())
    assert teacher.lead == " " and target.lead == ""
    assert sample.has_teacher.tolist() == [False] or mass(sample, 0)[target.codec.eos_id] == pytest.approx(0.5, abs=1e-2)
    sample, _ = align("bell", source=teacher, target=target, cfg=AlignmentParams())
    assert sample.has_teacher[-1] and max(mass(sample, -1), key=mass(sample, -1).get) == target.codec.eos_id


def test_label_path_moves_mass_to_longer_labels(teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    """The target knows `capital`, the teacher does not."""
    text = "the capital of the town"
    ours, theirs = target.codec.encode_responses([text])[0], teacher.codec.encode_responses([text], lead=" ")[0]
    rows = align_starts(ours, theirs)
    opening = first_byte_rows(ours, theirs)
    rows[opening[0]] = opening[1]
    longer = [t for t in range(len(ours.ids)) if rows[t] >= 0 and theirs.ends[rows[t]] < ours.ends[t]]
    plain, _ = align(text, source=teacher, target=target, cfg=AlignmentParams(label_path=False))
    moved, coverage = align(text, source=teacher, target=target, cfg=AlignmentParams())
    assert longer and coverage.num_aligned == (rows >= 0).sum()
    for t in np.flatnonzero(plain.has_teacher):
        before, after = mass(plain, t), mass(moved, t)
        label = int(plain.token_ids[t])
        if t in longer:
            stop = int(np.searchsorted(theirs.ends, ours.ends[t]))
            onward = 0.5 ** (stop - rows[t])
            assert after[label] - before.get(label, 0) == pytest.approx(0.5 * onward, abs=2e-3)
        else:
            assert after == before
        for one in (plain, moved):
            assert sum(mass(one, t).values()) + np.exp(float(one.tail[t])) == pytest.approx(1, abs=4e-3)


def test_next_token_fallback_is_on_the_token_the_row_predicts(teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    text = "café 東京 🙂 bell"
    masked, _ = align(text, source=teacher, target=target, cfg=AlignmentParams())
    taught, coverage = align(text, source=teacher, target=target, cfg=AlignmentParams(fallback="next_token"))
    missing = ~masked.has_teacher
    assert missing.any() and taught.has_teacher.all()
    assert coverage.num_fallback == missing.sum() == coverage.num_positions - coverage.num_aligned
    assert (taught.topk_ids[missing, 0] == taught.token_ids[missing]).all()
    assert (taught.topk_logprobs[missing, 0] == 0).all() and (taught.topk_logprobs[missing, 1:] == PAD_LOGPROB).all()
    assert (taught.tail[missing] == np.float16(TAIL_FLOOR)).all()
    assert np.array_equal(taught.topk_ids[~missing], masked.topk_ids[~missing])


def test_equal_tokenizers_are_the_identity(target: ChatTokenizer) -> None:
    cfg = AlignmentParams()
    assert build_vocab_map(target.codec, target.codec, cfg) is None
    for text in TEXTS:
        sample, coverage = align(text, source=target, target=target, cfg=cfg)
        stored = signals(target, text)
        for name in ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce"):
            assert np.array_equal(getattr(sample, name), getattr(stored, name))
        assert sample.has_teacher.all() and coverage == Coverage(stored.num_tokens, stored.num_tokens)


def test_equal_tokenizers_with_templates_of_different_lead(teacher: ChatTokenizer) -> None:
    chatml = ChatTokenizer(teacher.codec, PRESETS["chatml"])
    text = "bell on the hill"
    sample, coverage = align(text, source=teacher, target=chatml, cfg=AlignmentParams())
    ours, theirs = teacher.codec.encode_responses([text])[0], teacher.codec.encode_responses([text], lead=" ")[0]
    assert ours.ids.tolist() != theirs.ids.tolist()
    assert sample.has_teacher.tolist() == [True, *np.isin(ours.starts[1:], theirs.starts).tolist()]
    assert max(mass(sample, 0), key=mass(sample, 0).get) == ours.ids[0], "`▁bell` behind one template is `bell` behind the other"
    assert sample.has_teacher[-1] and coverage.num_aligned == sample.has_teacher.sum()


def test_min_edit_distance_mode(teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    cfg = AlignmentParams(mode="min_edit_distance", vocab_map="min_edit_distance", fallback="next_token")
    sample, coverage = align("The bell is on the hill.", source=teacher, target=target, cfg=cfg)
    assert sample.has_teacher.all() and coverage.num_aligned + coverage.num_fallback == coverage.num_positions
    assert 1 <= coverage.num_aligned < coverage.num_positions


def test_shard_keeps_order_and_counts_by_source(teacher: ChatTokenizer, target: ChatTokenizer, tmp_path) -> None:
    cfg = AlignmentParams()
    parties = {"own": target, "other": teacher}
    items = [
        AlignItem(ASK, text, name, replace(signals(parties[name], text), id=f"{name}-{n}"))
        for n, text in enumerate(TEXTS)
        for name in ("other", "own")
    ]
    maps = {name: build_vocab_map(p.codec, target.codec, cfg) for name, p in parties.items()}
    shard = align_shard(items, target=target, sources=parties, maps=maps, cfg=cfg)
    assert [s.id for s in shard.samples] == [i.signals.id for i in items]
    for name, coverage in shard.coverage.items():
        single = [
            align_sample(i, target=target, source=parties[name], vocab_map=maps[name], cfg=cfg)[1]
            for i in items
            if i.source == name
        ]
        assert coverage == sum(single, Coverage())
    assert shard.coverage["own"].num_aligned == shard.coverage["own"].num_positions
    spec = SignalSpec("own,other", "m", target.codec.digest, "t", "c", K, target.codec.vocab_size, "aligned")
    write_shard(tmp_path, 0, spec, shard.samples)
    again = SignalStore.open(tmp_path)[items[0].signals.id]
    assert again.has_teacher.tolist() == shard.samples[0].has_teacher.tolist()


def test_lossy_positions_are_masked_and_counted(target: ChatTokenizer) -> None:
    backend = Tokenizer(models.BPE({"<unk>": 0, "</s>": 1, "a": 2, "b": 3}, [], unk_token="<unk>"))
    lossy = ChatTokenizer(
        TokenCodec(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"), source="l"), PRESETS["text"]
    )
    stored = replace(signals(target, "a?b"), id="x")
    own = SampleSignals(
        "x",
        np.array([2, 0, 3, 1], np.uint32),
        np.array([[2], [0], [3], [1]], np.uint32),
        np.full((4, 1), -0.7, np.float16),
        np.full(4, -0.7, np.float16),
        np.full(4, 0.7, np.float32),
    )
    cfg = AlignmentParams()
    maps = build_vocab_map(lossy.codec, target.codec, cfg)
    sample, coverage = align_sample(AlignItem(ASK, "a?b", "l", own), target=target, source=lossy, vocab_map=maps, cfg=cfg)
    assert len(stored.token_ids) == 4 and sample.has_teacher.tolist() == [True, False, True, True]
    assert coverage == Coverage(4, 3, 1, 0)


def test_signals_of_another_text_and_missing_maps_are_refused(teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    cfg = AlignmentParams()
    vocab_map = build_vocab_map(teacher.codec, target.codec, cfg)
    item = AlignItem(ASK, "the hill", "s", signals(teacher, "the bell"))
    with pytest.raises(AlignmentError, match=r"Sample `x0`: .*source `teacher`.*'the hill'.*Recompute the signals"):
        align_sample(item, target=target, source=teacher, vocab_map=vocab_map, cfg=cfg)
    good = signals(teacher, "the bell")
    cut = replace(good, token_ids=good.token_ids[:-1])
    with pytest.raises(AlignmentError, match="`x0` must end with the end token 2 of source `s`"):
        align_sample(AlignItem(ASK, "the bell", "s", cut), target=target, source=teacher, vocab_map=vocab_map, cfg=cfg)
    with pytest.raises(AlignmentError, match=r"source `s` must have its tokenizer's \d+ tokens, but none is given"):
        align_sample(item, target=target, source=teacher, vocab_map=None, cfg=cfg)


@pytest.mark.parametrize("text", ["The bell is on the", "café", ""])
def test_a_cut_text_has_no_end(text: str, teacher: ChatTokenizer, target: ChatTokenizer) -> None:
    """Neither label nor signals say that it ended there, whoever teaches, and coverage counts it."""
    for source in (teacher, target):
        whole = signals(source, text)
        names = ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce")
        cut = replace(whole, **{name: getattr(whole, name)[:-1] for name in names})
        vocab_map = build_vocab_map(source.codec, target.codec, AlignmentParams())
        item = AlignItem(ASK, text, "s", cut, ended=False)
        sample, coverage = align_sample(item, target=target, source=source, vocab_map=vocab_map, cfg=AlignmentParams())
        (encoded,) = target.codec.encode_responses([text], lead=target.lead)
        assert sample.token_ids.tolist() == encoded.ids.tolist() and target.codec.eos_id not in sample.token_ids
        assert coverage.num_cut == 1 and coverage.num_positions == len(encoded.ids)
        ended, counted = align(text, source=source, target=target, cfg=AlignmentParams())
        assert counted.num_cut == 0 and ended.token_ids.tolist() == [*encoded.ids.tolist(), target.codec.eos_id]
        assert np.array_equal(sample.topk_ids, ended.topk_ids[:-1]) and np.array_equal(sample.has_teacher, ended.has_teacher[:-1])


def test_every_end_of_the_source_teaches_the_end_of_the_target(pico_tokenizer, target: ChatTokenizer) -> None:
    """ChatML on a base tokenizer: the end is `<|im_end|>`, end of text counts as well, and an ordinary end only at the end."""
    tokenizer = copy.deepcopy(pico_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    base = TokenCodec(tokenizer, source="base")
    chatml = ChatTokenizer(base, PRESETS["chatml"])
    im_end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>"])
    assert chatml.codec.eos_id == im_end and base.eos_id == eos
    stored = signals(chatml, "the bell")
    stored.topk_ids[-1] = [im_end, eos, 40, 41]
    item = AlignItem(ASK, "the bell", "s", stored)
    # The map was made of the tokenizers alone: the chat_tokenizer knows its ends all the same.
    maps = build_vocab_map(base, target.codec, AlignmentParams())
    sample, _ = align_sample(item, target=target, source=chatml, vocab_map=maps, cfg=AlignmentParams())
    assert mass(sample, -1)[target.codec.eos_id] == pytest.approx(0.6, abs=1e-2)
    marked = ChatTokenizer(base, "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}#{% endif %}{% endfor %}")
    hash_id = tokenizer.convert_tokens_to_ids("#")
    assert marked.codec.eos_id == hash_id
    stored = signals(marked, "the # bell")
    stored.topk_ids[0] = [stored.token_ids[0], hash_id, 40, 41]
    item = AlignItem(ASK, "the # bell", "s", stored)
    sample, _ = align_sample(item, target=target, source=marked, vocab_map=maps, cfg=AlignmentParams())
    assert mass(sample, -1)[target.codec.eos_id] == pytest.approx(0.5, abs=1e-2)
    assert mass(sample, 0)[target.codec.pieces.index("#")] == pytest.approx(0.1, abs=1e-2)
    assert target.codec.eos_id not in mass(sample, 0)
