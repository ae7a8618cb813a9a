"""What a label gets of a source's distribution, against a count over all source tokens of a small vocabulary."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.alignment import align_sample
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from models.fusion.alignment.target_signals import AlignItem, ChatTokenizer, build_vocab_map
from models.fusion.signals.record import PAD_LOGPROB, SampleSignals
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.codec import TokenCodec

PIECES = ["aa", "ab", "ba", "bb", "aab", "aba", "abb", "bab", "aaaa", "abab"]
TEXT = "{% for m in messages %}{{ m.content }}{% endfor %}"
LEAD = "{% for m in messages %}{{ ' ' if m.role == 'assistant' }}{{ m.content }}{% endfor %}"
TEXTS = st.text(alphabet="ab", min_size=1, max_size=12)
VOCABULARIES = st.lists(st.sampled_from(PIECES), unique=True, max_size=6).map(tuple)


def chat_tokenizer(pieces: tuple[str, ...], template: str = TEXT) -> ChatTokenizer:
    """A tokenizer that takes the longest of its pieces (a WordPiece without word marks); end token `</s>`."""
    names = ["</s>", "<unk>", " ", "a", "b", *pieces, *(" " + p for p in ("a", "b", *pieces))]
    backend = Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="<unk>", continuing_subword_prefix=""))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    return ChatTokenizer(TokenCodec(tokenizer, source="small"), template)


def whole_distribution(source: ChatTokenizer, text: str, seed: int) -> SampleSignals:
    """A random source whose every token is among its top-k: K = V."""
    codec = source.codec
    labels = np.append(codec.encode_responses([text], lead=source.lead)[0].ids, codec.eos_id)
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(codec.vocab_size, 0.3), size=len(labels)).astype(np.float32) + np.float32(1e-6)
    probs /= probs.sum(axis=1, keepdims=True)
    ids = np.argsort(-probs, axis=1, kind="stable")
    logs = np.log(np.take_along_axis(probs, ids, axis=1))
    own = probs[np.arange(len(labels)), labels]
    return SampleSignals(
        "x", labels.astype(np.uint32), ids.astype(np.uint32), logs.astype(np.float16),
        np.full(len(labels), np.log(1e-8), np.float16), -np.log(own).astype(np.float32),
    )  # fmt: skip


def carry(text: str, source: ChatTokenizer, target: ChatTokenizer, signals: SampleSignals, *, label_path: bool) -> SampleSignals:
    cfg = AlignmentParams(label_path=label_path)
    maps = build_vocab_map(source.codec, target.codec, cfg)
    item = AlignItem([Message("user", "q")], text, "s", signals)
    return align_sample(item, target=target, source=source, vocab_map=maps, cfg=cfg)[0]


def mass(sample: SampleSignals, row: int, token: int) -> float:
    used = (sample.topk_logprobs[row] > PAD_LOGPROB) & (sample.topk_ids[row] == token)
    return float(np.exp(sample.topk_logprobs[row][used].astype(np.float64)).sum())


@settings(deadline=None, max_examples=80)
@given(
    text=TEXTS, ours=VOCABULARIES, theirs=VOCABULARIES, seed=st.integers(0, 99),
    leads=st.sampled_from([(TEXT, TEXT), (LEAD, LEAD), (TEXT, LEAD), (LEAD, TEXT)]),
)  # fmt: skip
def test_labels_get_what_the_source_gives_to_their_bytes(text, ours, theirs, seed, leads) -> None:
    """Mass is kept, no label loses by it, and it is the sum of the definition over all tokens of the source."""
    target, source = chat_tokenizer(ours, leads[0]), chat_tokenizer(theirs, leads[1])
    signals = whole_distribution(source, text, seed)
    plain, moved = (carry(text, source, target, signals, label_path=on) for on in (False, True))
    (e,), (f,) = (p.codec.encode_responses([text], lead=p.lead) for p in (target, source))
    assert moved.has_teacher[0] and moved.has_teacher.tolist() == plain.has_teacher.tolist()
    maps = build_vocab_map(source.codec, target.codec, AlignmentParams())
    data = (source.lead + text).encode()
    for t in np.flatnonzero(moved.has_teacher[:-1]):
        label = int(e.ids[t])
        used = moved.topk_logprobs[t] > PAD_LOGPROB
        total = np.exp(moved.topk_logprobs[t][used].astype(np.float64)).sum() + np.exp(float(moved.tail[t]))
        assert abs(total - 1) < 1e-2
        after, before = mass(moved, t, label), mass(plain, t, label)
        assert after >= before - 1e-3
        begin = int(e.starts[t]) if e.starts[t] > 0 else 0
        row = int(np.searchsorted(f.starts, begin, side="right")) - 1
        start, end = int(f.starts[row]), int(e.ends[t])
        here = data[start + f.lead :]
        together = begin == e.starts[t] == f.starts[row]
        wanted = 0.0
        for index, log in zip(signals.topk_ids[row].tolist(), signals.topk_logprobs[row].tolist(), strict=True):
            piece = source.codec.token_bytes[index] or b""
            covers = bool(piece) and here.startswith(piece) and start + len(piece) >= end
            named = index if maps is None else maps.ids[index]
            wanted += float(np.exp(log)) if covers or (together and named == label) else 0.0
        stop = int(np.searchsorted(f.ends, end))
        if stop > row:
            wanted += float(np.exp(-signals.ce[row : stop + 1].sum(dtype=np.float64)))
        if together:
            assert abs(after - wanted) < 1e-2
        else:
            assert after >= wanted - 1e-2, "behind differing leads further tokens may be spelt like the label"


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, theirs=VOCABULARIES, seed=st.integers(0, 99))
def test_single_bytes_get_the_exact_byte_marginal(text: str, theirs: tuple[str, ...], seed: int) -> None:
    """A target of single characters: its label's probability is that of all source tokens which begin with the character."""
    target, source = chat_tokenizer(()), chat_tokenizer(theirs)
    signals = whole_distribution(source, text, seed)
    moved = carry(text, source, target, signals, label_path=True)
    (e,), (f,) = (p.codec.encode_responses([text]) for p in (target, source))
    for t in np.flatnonzero(moved.has_teacher[:-1]):
        row = int(np.searchsorted(f.starts, e.starts[t]))
        pairs = zip(signals.topk_ids[row].tolist(), np.exp(signals.topk_logprobs[row].astype(np.float64)), strict=True)
        first = text.encode()[t : t + 1]
        marginal = sum(p for i, p in pairs if (source.codec.token_bytes[i] or b"").startswith(first))
        assert abs(mass(moved, t, int(e.ids[t])) - marginal) < 1e-2


@settings(deadline=None, max_examples=80)
@given(text=TEXTS, ours=VOCABULARIES, theirs=VOCABULARIES)
def test_a_source_sure_of_the_text_never_contradicts_a_label(text: str, ours, theirs) -> None:
    """Wherever it teaches, a source that is certain of every token of the text is certain of the target's label."""
    target, source = chat_tokenizer(ours), chat_tokenizer(theirs)
    labels = np.append(source.codec.encode_responses([text])[0].ids, source.codec.eos_id).astype(np.uint32)
    size = len(labels)
    sure = SampleSignals(
        "x", labels, labels[:, None], np.full((size, 1), -1e-3, np.float16), np.full(size, -7, np.float16),
        np.full(size, 1e-3, np.float32),
    )  # fmt: skip
    moved = carry(text, source, target, sure, label_path=True)
    rows = np.flatnonzero(moved.has_teacher)
    assert (moved.topk_ids[rows, 0] == moved.token_ids[rows]).all()
    assert rows[0] == 0 and rows[-1] == len(moved.token_ids) - 1
