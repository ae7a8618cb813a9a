import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import DataError, NumericsError
from models.fusion import teacher_forcing
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.fusion.teacher_forcing import capture_signals, source_score, teacher_force
from models.lm.prompts import TextItem
from models.schema import Message

ARCHITECTURES = ["llama", "mistral", "gpt_neox", "mpt"]
RESPONSES = ["It is 42.", "", "The capital of Borland is Quenby, a little town on a hill.", "東京 🙂", "a", "</s> is text here"]
LMS = Path("data/external/lms")


def items(*responses: str) -> list[TextItem]:
    prompts = ["Hi", "What is 17 plus 25?", "Once upon a time there was a town", "x", "def add(a, b):", "I cannot"]
    return [TextItem(f"row-{i}", [Message("user", prompts[i % 6])], text) for i, text in enumerate(responses)]


def reference(source, item: TextItem) -> torch.Tensor:
    """Dense float64 log-probabilities [T, V] and labels [T], from one unpadded pass of the whole model."""
    (text,) = teacher_forcing.fit_texts(source.source, source.codec, [item], overflow="truncate_left")
    with torch.no_grad():
        logits = source.model(input_ids=torch.tensor([text.inputs.tolist()]), use_cache=False).logits[0]
    rows = logits[len(text.prompt) - 1 :, : source.codec.vocab_size].double().log_softmax(-1)
    return rows, torch.tensor(text.labels.tolist())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_batched_signals_equal_the_dense_reference_of_each_row(pico, arch):
    source = pico(arch)
    signals = list(capture_signals(source, items(*RESPONSES), top_k=5, batch_tokens=256))
    assert [s.id for s in signals] == [f"row-{i}" for i in range(6)]
    for one, item in zip(signals, items(*RESPONSES), strict=True):
        rows, labels = reference(source, item)
        assert one.token_ids.tolist() == labels.tolist() and labels[-1] == source.codec.eos_id
        np.testing.assert_allclose(one.ce, -rows.gather(1, labels[:, None]).squeeze(1), atol=1e-4)
        values, ids = rows.topk(5)
        assert one.topk_ids.tolist() == ids.tolist()
        np.testing.assert_allclose(one.topk_logprobs.astype(float), values, atol=0.02)
        rest = rows.scatter(1, ids, -math.inf).logsumexp(1)
        np.testing.assert_allclose(one.tail.astype(float), rest, atol=0.02)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_batched_equals_single(pico, arch):
    source = pico(arch)
    together = list(capture_signals(source, items(*RESPONSES), top_k=3, batch_tokens=4096))
    alone = [s for item in items(*RESPONSES) for s in capture_signals(source, [item], top_k=3, batch_tokens=1)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.ce, b.ce, atol=1e-4)
        assert a.topk_ids.tolist() == b.topk_ids.tolist()


def test_dtypes_are_those_of_the_store_and_it_takes_them(pico, tmp_path):
    source = pico("llama")
    signals = list(capture_signals(source, items(*RESPONSES), top_k=5, batch_tokens=256))
    one = signals[0]
    dtypes = [a.dtype.name for a in (one.token_ids, one.topk_ids, one.topk_logprobs, one.tail, one.ce)]
    assert dtypes == ["uint32", "uint32", "float16", "float16", "float32"]
    spec = SignalSpec("llama", "m", source.codec.digest, "t", "c", 5, source.codec.vocab_size, "response")
    write_shard(tmp_path, 0, spec, signals)
    stored = SignalStore.open(tmp_path)["row-2"]
    assert stored.topk_logprobs.tolist() == signals[2].topk_logprobs.tolist() and stored.ce.tolist() == signals[2].ce.tolist()


def test_window_and_chunk_sizes_change_nothing(pico, monkeypatch):
    source = pico("llama")
    expected = list(capture_signals(source, items(*RESPONSES), top_k=4, batch_tokens=4096))
    monkeypatch.setattr(teacher_forcing, "_WINDOW", 2)
    monkeypatch.setattr(teacher_forcing, "_CHUNK_LOGITS", {"cpu": 1})
    done: list[int] = []
    got = list(capture_signals(source, items(*RESPONSES), top_k=4, batch_tokens=4096, on_progress=done.append))
    for a, b in zip(expected, got, strict=True):
        assert a.id == b.id and a.topk_ids.tolist() == b.topk_ids.tolist()
        np.testing.assert_allclose(a.ce, b.ce, atol=1e-5)
    assert done == [2, 4, 6]


def test_cross_entropy_only(pico):
    source = pico("gpt_neox")
    full = list(capture_signals(source, items(*RESPONSES), top_k=4, batch_tokens=512))
    for nothing in (None, 0):
        bare = list(capture_signals(source, items(*RESPONSES), top_k=nothing, batch_tokens=512))
        assert [b.ce.tolist() for b in bare] == [f.ce.tolist() for f in full]
        assert all(b.topk_ids.shape == (b.num_tokens, 0) and (b.tail == 0).all() for b in bare)


def test_padded_head_rows_have_no_probability(pico):
    source = pico("llama", head_size=400)
    size = source.codec.vocab_size
    (one,) = capture_signals(source, items("It is 42."), top_k=size, batch_tokens=512)
    assert one.topk_ids.shape[1] == size and (one.topk_ids < size).all()
    np.testing.assert_allclose(np.exp(one.topk_logprobs.astype(float)).sum(axis=1), 1.0, atol=2e-3)
    assert (one.tail.astype(float) < -18).all(), "nothing is left for the tail"


def test_more_slots_than_vocabulary_are_marked_unused(pico):
    source = pico("llama")
    size = source.codec.vocab_size
    (one,) = capture_signals(source, items("It is 42."), top_k=size + 7, batch_tokens=512)
    assert one.topk_ids.shape[1] == size + 7
    assert (one.topk_logprobs[:, size:] == PAD_LOGPROB).all() and (one.topk_ids[:, size:] == 0).all()
    assert np.isfinite(one.tail.astype(float)).all()


def test_tail_of_peaked_rows_is_no_rounding_noise():
    for gap in (5.0, 12.0, 16.0):
        logits = torch.zeros(1, 1000)
        logits[0, 3] = gap + math.log(1000)
        _, ids, _, tail = teacher_forcing._reduce_chunk(logits, torch.tensor([3]), 1)
        exact = math.log(999) - math.log(999 + 1000 * math.exp(gap))
        assert ids.item() == 3 and tail.item() == pytest.approx(exact, abs=0.01)
    logits[0, 3] = 60.0
    assert teacher_forcing._reduce_chunk(logits, torch.tensor([3]), 1)[3].item() == pytest.approx(TAIL_FLOOR, abs=0.01)


def test_head_runs_only_where_a_response_is_predicted(pico, monkeypatch):
    source = pico("llama")
    rows: list[int] = []
    product = teacher_forcing.head_product

    def counted(hidden, weight, bias=None):
        rows.append(len(hidden))
        return product(hidden, weight, bias)

    head = teacher_forcing.head_of(source.model)
    monkeypatch.setattr(teacher_forcing, "head_of", lambda _model: head)
    monkeypatch.setattr(source.model, "forward", None)  # the whole model, with logits everywhere, is never called
    monkeypatch.setattr(teacher_forcing, "head_product", counted)
    signals = list(capture_signals(source, items(*RESPONSES), top_k=2, batch_tokens=4096))
    assert sum(rows) == sum(s.num_tokens for s in signals)


@pytest.mark.parametrize("keep", [True, False])
def test_heads_that_do_more_go_through_the_models_own_logits(pico, pico_tokenizer, caplog, keep, monkeypatch):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    tokens = {
        "vocab_size": len(pico_tokenizer),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "initializer_range": 0.5,
    }
    torch.manual_seed(3)
    model = Gemma2ForCausalLM(Gemma2Config(**sizes, **tokens, num_key_value_heads=2, final_logit_softcapping=2.0)).eval()
    source = replace(pico("llama"), model=model)
    if not keep:
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda input_ids, attention_mask, use_cache: forward(input_ids, attention_mask))
        monkeypatch.setattr(teacher_forcing, "head_of", _refuse)
    else:
        monkeypatch.setattr(teacher_forcing, "_FULL_LOGITS", 50 * len(pico_tokenizer))
    signals = list(capture_signals(source, items(*RESPONSES), top_k=4, batch_tokens=4096))
    monkeypatch.undo()
    assert caplog.text.count("`llama` is scored through its full logits") == 1
    for one, item in zip(signals, items(*RESPONSES), strict=True):
        rows, labels = reference(source, item)
        np.testing.assert_allclose(one.ce, -rows.gather(1, labels[:, None]).squeeze(1), atol=1e-4)


def _refuse(_model):
    raise teacher_forcing.SourceError("soft-capping")


def test_score_sums_the_text_once_with_its_end(pico):
    source = pico("mpt")
    forced = list(teacher_force(source, items("It is 42.", "東京"), top_k=None, batch_tokens=512))
    for one, text in zip(forced, ["It is 42.", "東京"], strict=True):
        assert one.score.nll == pytest.approx(one.signals.ce.astype(float).sum(), rel=1e-9)
        assert one.score.num_tokens == one.signals.num_tokens == len(source.codec.encode_responses([text])[0].ids) + 1
        assert one.score.num_bytes == len(text.encode()) and one.score.lossless and not one.prompt_truncated
        assert source_score(one.signals, num_bytes=one.score.num_bytes, lossless=True) == one.score


def test_overflowing_prompts_are_cut_and_flagged_or_refused(pico):
    source = pico("llama", context_length=40)
    long = TextItem("long", [Message("user", "word " * 60)], "It is 42.")
    short = TextItem("short", [Message("user", "Hi")], "It is 42.")
    forced = list(teacher_force(source, [long, short], top_k=2, batch_tokens=512))
    assert [f.prompt_truncated for f in forced] == [True, False]
    rows, labels = reference(source, long)
    np.testing.assert_allclose(forced[0].signals.ce, -rows.gather(1, labels[:, None]).squeeze(1), atol=1e-4)
    with pytest.raises(DataError, match="`long` must have a prompt of at most"):
        list(teacher_force(source, [long, short], top_k=2, batch_tokens=512, overflow="error"))
    with pytest.raises(DataError, match="`huge` must have a response of at most 39 tokens"):
        list(teacher_force(source, [TextItem("huge", short.messages, "x" * 40)], top_k=2, batch_tokens=512))


def test_not_finite_names_source_and_ids(pico):
    source = pico("llama", context_length=101)
    weight = source.model.model.norm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(
            NumericsError, match="The cross-entropy of `llama` must be finite, but is not on 2 texts: row-0, row-1"
        ):
            list(capture_signals(source, items("a", "b"), top_k=2, batch_tokens=512))
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_bfloat16_is_close_to_float32(pico):
    exact = list(capture_signals(pico("llama"), items(*RESPONSES), top_k=None, batch_tokens=512))
    rough = list(capture_signals(pico("llama", dtype="bfloat16"), items(*RESPONSES), top_k=None, batch_tokens=512))
    for a, b in zip(exact, rough, strict=True):
        assert b.ce.dtype == np.float32
        np.testing.assert_allclose(a.ce, b.ce, atol=0.15)


@pytest.mark.skipif(not LMS.exists(), reason="data/external/lms is not there")
def test_greedy_text_of_a_real_model_is_its_first_choice_everywhere():
    from models.lm.loading import load_source
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    spec = SourceSpec(name="stories", model=str(LMS / "stories260K" / "hf"), chat_template="text")
    source = load_source(resolve_source(spec, root=Path()), device="cpu")
    text = (LMS / "stories260K" / "expected_greedy.txt").read_text().strip()
    start = text.index(", there")
    (forced,) = teacher_force(source, [TextItem("s", [Message("user", text[:start])], text[start:])], top_k=10, batch_tokens=1024)
    assert (forced.signals.topk_ids[:-1, 0] == forced.signals.token_ids[:-1]).all()
    assert forced.score.nll / math.log(2) / forced.score.num_bytes < 0.8, "bits per byte of its own likeliest text"
