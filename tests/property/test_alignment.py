"""Properties of codec, alignment and vocabulary map over arbitrary text, with tokenizers trained on the spot."""

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.alignment import map_topk
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.fusion.signals.record import PAD_LOGPROB
from models.tokenization.alignment import align_min_edit, align_starts, lossy_rows
from models.tokenization.codec import TokenCodec
from models.tokenization.vocab_map import VocabMap, byte_vocab_map

CORPUS = [
    "Once upon a time there was a little town on a hill, and the town had a bell.",
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 24",
    "def add(a, b):\n    return a + b\n\n\n\tprint(add(1, 2))\r\n",
    "naïve café in Zürich, 東京タワー, здравствуй, 👩‍👩‍👧 👍🏽 🇩🇪",
]
ODD = ["</s>", "<unk>", "<0x0A>", "▁", "Ġ", "  ", "\r\n", "\t", "👩‍👩‍👧", "e\u0301", "\u200d", "\x00", "東", " the", "add("]
TEXTS = st.lists(st.one_of(st.sampled_from([*ODD, *" ".join(CORPUS).split(" ")]), st.text(max_size=4)), max_size=12).map("".join)
KINDS = ["bytes_small", "bytes_large", "pieces", "characters"]


@cache
def codec(kind: str) -> TokenCodec:
    """Byte-level BPE of two sizes, SentencePiece style with byte pieces, and single characters without any fallback (lossy)."""
    if kind.startswith("bytes"):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        size, first = (290, ["</s>"]) if kind == "bytes_small" else (480, ["<s>", "<pad>", "</s>"])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=kind == "pieces"))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        byte_pieces = [f"<0x{b:02X}>" for b in range(256)] if kind == "pieces" else []
        size, first, alphabet = (400 if byte_pieces else 30), ["<unk>", "</s>", *byte_pieces], []
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=first,
        initial_alphabet=alphabet,
        show_progress=False,
        limit_alphabet=256 if kind.startswith("bytes") else 40,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return TokenCodec(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>"), source=kind)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, kind=st.sampled_from(KINDS), lead=st.sampled_from(["", " "]))
def test_tokens_cover_the_text_once_and_in_order(text: str, kind: str, lead: str) -> None:
    (encoded,) = codec(kind).encode_responses([text], lead=lead)
    spelled = [codec(kind).token_bytes[i] for i in encoded.ids.tolist()]
    data, starts = lead.encode() + text.encode(), encoded.starts
    assert len(encoded.ids) == len(encoded.ends) == len(encoded.lossy)
    assert (np.diff(starts) >= 0).all() and starts[0] == -len(lead)
    for t, piece in enumerate(spelled):
        covered = data[starts[t] + len(lead) : starts[t + 1] + len(lead)]
        assert encoded.lossy[t] == (piece != covered or not covered)
    exact = None not in spelled and b"".join(spelled) == data
    assert encoded.lossless == exact
    if exact:
        assert starts[-1] == encoded.num_bytes == len(text.encode())
        assert codec(kind).decode(encoded.ids) == lead + text
    if kind.startswith("bytes"):
        assert exact
    placed = codec(kind).place(encoded.ids, text, lead=lead)
    assert placed.ends.tolist() == encoded.ends.tolist() and placed.lossy.tolist() == encoded.lossy.tolist()


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, ours=st.sampled_from(KINDS), theirs=st.sampled_from(KINDS))
def test_rows_are_aligned_where_both_sides_start_and_nowhere_else(text: str, ours: str, theirs: str) -> None:
    (target,), (source,) = codec(ours).encode_responses([text]), codec(theirs).encode_responses([text])
    rows = align_starts(target, source)
    assert len(rows) == len(target.ids) + 1
    used = rows[rows >= 0]
    assert (np.diff(used) > 0).all() if target.lossless else (np.diff(used) >= 0).all()
    lossy = lossy_rows(target, source)
    wanted = np.isin(target.starts, source.starts) & ~lossy
    assert ((rows >= 0) == wanted).all()
    assert (source.starts[used] == target.starts[rows >= 0]).all()
    if target.lossless and source.lossless:
        assert not lossy.any() and rows[0] == 0 and rows[-1] == len(source.ids)
        if ours == theirs:
            assert rows.tolist() == list(range(len(target.ids) + 1))


@settings(deadline=None, max_examples=60)
@given(text=TEXTS, ours=st.sampled_from(KINDS[:3]), theirs=st.sampled_from(KINDS[:3]))
def test_min_edit_distance_rows_are_monotone(text: str, ours: str, theirs: str) -> None:
    (target,), (source,) = codec(ours).encode_responses([text]), codec(theirs).encode_responses([text])
    rows = align_min_edit(target, source, target_codec=codec(ours), source_codec=codec(theirs))
    used = rows[rows >= 0]
    assert len(rows) == len(target.ids) + 1 and (np.diff(used) >= 0).all() and (used <= len(source.ids)).all()
    if ours == theirs and target.lossless:
        assert rows.tolist() == list(range(len(target.ids) + 1))


@settings(deadline=None, max_examples=100)
@given(data=st.data(), top_k=st.integers(1, 6), num_rows=st.integers(1, 5), vocab=st.integers(6, 12))
def test_map_topk_conserves_probability_and_sums_duplicates(data, top_k: int, num_rows: int, vocab: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ids = np.stack([rng.permutation(vocab)[:top_k] for _ in range(num_rows)])
    scores = rng.normal(size=(num_rows, top_k + 1)) * data.draw(st.sampled_from([0.5, 3.0, 8.0]))
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    probs[:, :-1] = np.sort(probs[:, :-1])[:, ::-1]
    logs, tail = np.log(probs[:, :-1]).astype(np.float16), np.log(probs[:, -1]).astype(np.float16)
    mapping = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=vocab, max_size=vocab)), np.int32)
    got_ids, got_logs, got_tail = map_topk(ids, logs, tail, VocabMap(mapping, mapping >= 0))
    assert got_ids.shape == got_logs.shape == (num_rows, top_k)
    for row in range(num_rows):
        wanted = {j: 0.0 for j in mapping[ids[row]].tolist() if j >= 0}
        for i, lp in zip(ids[row], logs[row].astype(float), strict=True):
            if mapping[i] >= 0:
                wanted[int(mapping[i])] += float(np.exp(lp))
        used = got_logs[row] > PAD_LOGPROB
        got = dict(zip(got_ids[row][used].tolist(), np.exp(got_logs[row][used].astype(float)).tolist(), strict=True))
        assert len(got) == used.sum()
        assert {j for j, p in wanted.items() if p > 1e-7} <= set(got) <= set(wanted)
        assert all(abs(got[j] - min(wanted[j], 1.0)) <= 2e-3 for j in got)
        before = np.exp(logs[row].astype(float)).sum() + np.exp(float(tail[row]))
        after = sum(got.values()) + np.exp(float(got_tail[row]))
        assert abs(before - after) <= 5e-3
        assert (np.diff(got_logs[row]) <= 0).all()


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, ours=st.sampled_from(KINDS[:3]), theirs=st.sampled_from(KINDS))
def test_the_source_s_own_token_maps_to_what_the_text_goes_on_with(text: str, ours: str, theirs: str) -> None:
    """What the source's own token maps to agrees with the text at that byte: a teacher never contradicts the label's bytes."""
    (target,), (source,) = codec(ours).encode_responses([text]), codec(theirs).encode_responses([text])
    vocab_map = mapping(theirs, ours)
    rows = align_starts(target, source)
    data = text.encode()
    for t in np.flatnonzero(rows[:-1] >= 0):
        mapped = vocab_map.ids[source.ids[rows[t]]]
        piece = codec(ours).token_bytes[mapped] if mapped >= 0 else b""
        assert data[target.starts[t] :].startswith(piece)
    if rows[-1] >= 0:
        assert vocab_map.ids[codec(theirs).eos_id] == codec(ours).eos_id


@cache
def mapping(theirs: str, ours: str) -> VocabMap:
    return byte_vocab_map(codec(theirs), codec(ours))
