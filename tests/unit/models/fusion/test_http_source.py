import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.http_source import vllm

from models.errors import BackendError, DataError
from models.fusion.http_source import http_responses, http_signals
from models.fusion.teacher_forcing import capture_signals
from models.lm.answers import generate_responses
from models.lm.http import OpenAiClient, RetryPolicy
from models.lm.loading import load_codec
from models.lm.prompts import PromptItem, TextItem, fit_prompts
from models.params.teach import ResponseParams
from models.schema import Message, Response

TEXTS = ["It is 42.", "", "The capital of Borland is Quenby.", "東京"]


def client_of(endpoint) -> OpenAiClient:
    return OpenAiClient(endpoint.url, model="m", timeout_s=10, retry=RetryPolicy(attempts=2, base_s=0.01))


def prompts(count: int) -> list[PromptItem]:
    return [PromptItem(f"row-{i}", [Message("user", f"question {i}")]) for i in range(count)]


def reply(text, finish="stop", tokens=3, read=None):
    choices = [{"text": text, "finish_reason": finish}]
    return 200, {}, json.dumps({"choices": choices, "usage": {"completion_tokens": tokens, "prompt_tokens": read}}).encode()


def answers(source, client, count: int, cfg: ResponseParams | None = None, **settings) -> list[Response]:
    return http_responses(
        client, prompts(count), cfg or ResponseParams(max_new_tokens=9), source=source.source, codec=source.codec, **settings
    )


def question(source, body) -> str:
    """What a server reads: the text of the ids."""
    return source.codec.decode(body["prompt"]).partition("question ")[2][0]


def test_a_server_reads_our_templates_ids_and_stops_where_our_labels_end(pico, endpoint):
    source = pico("llama")
    endpoint.answer = lambda _path, body: reply("fine", read=len(body["prompt"]))
    answers(source, client_of(endpoint), 3)
    fitted = fit_prompts(source.source, source.codec, prompts(3), room=9, overflow="error")
    assert sorted(body["prompt"] for _, body, _ in endpoint.seen) == sorted(p.ids.tolist() for p in fitted)
    assert {path for path, _, _ in endpoint.seen} == {"/v1/completions"}
    assert all(body["stop_token_ids"] == list(source.codec.end.stops) for _, body, _ in endpoint.seen)


def test_a_server_of_the_same_model_answers_as_the_model_in_process(pico, endpoint):
    source = pico("llama")

    def answer(_path, body):
        ids = list(body["prompt"])
        finish = "length"
        for _ in range(body["max_tokens"]):
            with torch.no_grad():
                best = int(source.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if best in body["stop_token_ids"]:
                finish = "stop"
                break
            ids.append(best)
        written = ids[len(body["prompt"]) :]
        return reply(source.codec.decode(written), finish, len(written), len(body["prompt"]))

    endpoint.answer = answer
    cfg = ResponseParams(max_new_tokens=9)
    # Two prompts whose answers are whole characters: a server writes U+FFFD for others, also where it is no cut.
    assert answers(source, client_of(endpoint), 2, cfg) == generate_responses(source, prompts(2), cfg)


def test_responses_in_order_with_own_seeds(pico, endpoint):
    source = pico("llama", chat_template="vicuna")
    endpoint.answer = lambda _path, body: reply(f" {question(source, body)}/{body['seed']}", "length", 7)
    cfg = ResponseParams(temperature=0.7, num_samples=2, max_new_tokens=9, seed=3)
    long, done = replace(source, source=replace(source.source, context_length=512)), []
    responses = answers(long, client_of(endpoint), 3, cfg, on_progress=done.append)
    assert [(r.id, r.sample) for r in responses] == [(f"row-{i}", s) for i in range(3) for s in range(2)]
    assert [r.text.split("/")[0] for r in responses] == [f"{i}" for i in range(3) for _ in range(2)]
    assert len({r.text for r in responses}) == 6, "each (prompt, sample) sends its own seed"
    assert responses[0] == Response("row-0", "llama", 0, responses[0].text, 7, "length")
    assert {(b["temperature"], b["top_p"], b["max_tokens"]) for _, b, _ in endpoint.seen} == {(0.7, 0.95, 9)}
    assert done == [1, 2, 3, 4, 5, 6]


def test_greedy_sends_no_seed(pico, endpoint):
    endpoint.answer = lambda _path, body: reply("fine")
    (response,) = answers(pico("llama"), client_of(endpoint), 1)
    assert response.finish == "eos" and "seed" not in endpoint.seen[0][1] and endpoint.seen[0][1]["temperature"] == 0


def test_the_first_of_several_may_be_greedy(pico, endpoint):
    endpoint.answer = lambda _path, body: reply(f"{body['temperature']}/{'seed' in body}")
    cfg = ResponseParams(temperature=0.7, num_samples=3, max_new_tokens=9, greedy_first=True)
    assert [r.text for r in answers(pico("llama"), client_of(endpoint), 1, cfg)] == ["0.0/False", "0.7/True", "0.7/True"]


def test_a_bad_answer_is_an_empty_one_with_its_reason(pico, endpoint, caplog):
    source = pico("llama")
    bad = {"1": reply(None, "length"), "2": (400, {}, b"too long"), "3": (200, {}, b"<html>"), "4": (200, {}, b'{"choices": []}')}
    endpoint.answer = lambda _path, body: bad.get(question(source, body), reply("fine"))
    responses = answers(source, client_of(endpoint), 6)
    assert [r.problem for r in responses] == ["", "length", "no reply", "no reply", "no message", ""]
    assert [r.text for r in responses] == ["fine", "", "", "", "", "fine"] and responses[1].finish == "length"
    assert "llama: 4 of 6 answers are empty: 1 × length, 1 × no message, 2 × no reply." in caplog.text


def test_prompts_without_an_answer_stop_nothing_where_the_server_takes_ids(pico, endpoint):
    endpoint.answer = lambda _path, body: reply("x") if body["max_tokens"] == 1 else (400, {}, b"no")
    assert [r.problem for r in answers(pico("llama"), client_of(endpoint), 2)] == ["no reply"] * 2


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_takes_no_token_ids_is_named(pico, endpoint, status, texts):
    refusal = (status, {}, b"prompt must be a string")
    endpoint.answer = lambda _path, body: reply("x") if texts and isinstance(body["prompt"], str) else refusal
    with pytest.raises(BackendError, match=rf"HTTP {status}: 'prompt must be a string'.*takes token ids .*such as vLLM"):
        answers(pico("llama"), client_of(endpoint), 3)


def test_a_server_that_reads_the_ids_as_something_else_is_named(pico, endpoint):
    endpoint.answer = lambda _path, body: reply("fine", read=3 * len(body["prompt"]))
    with pytest.raises(BackendError, match=r"must read a prompt's \d+ token ids as they are, but reads \d+ tokens"):
        answers(pico("llama"), client_of(endpoint), 3)


def test_tokens_are_counted_here_where_the_server_does_not(pico, endpoint):
    source = pico("llama")
    endpoint.answer = lambda _path, body: reply("one two three", tokens=None)
    (response,) = answers(source, client_of(endpoint), 1)
    assert response.num_tokens == len(source.codec.encode_ids(["one two three"])[0])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_at_once(pico, endpoint, status):
    endpoint.answer = lambda _path, body: (status, {}, b"no")
    with pytest.raises(BackendError, match=f"HTTP {status}"):
        answers(pico("llama"), client_of(endpoint), 40)
    assert len(endpoint.seen) < 20


def test_a_prompt_that_is_cut_says_so_and_one_that_may_not_be_is_an_error(pico, endpoint):
    source = pico("llama")
    endpoint.answer = lambda _path, body: reply("fine")
    settings = {"source": source.source, "codec": source.codec}
    item = [PromptItem("row-0", [Message("user", "question " * 300)])]
    (response,) = http_responses(client_of(endpoint), item, ResponseParams(max_new_tokens=9), **settings)
    assert response.prompt_truncated and len(endpoint.seen[0][1]["prompt"]) == source.source.context_length - 9
    with pytest.raises(DataError, match="row-0"):
        http_responses(client_of(endpoint), item, ResponseParams(max_new_tokens=9), **settings, overflow="error")


def test_the_end_of_the_turn_is_no_part_of_the_text(pico, endpoint):
    for text, finish, wanted in (("fine</s>", "stop", "fine"), ("fine</s>", "length", "fine</s>"), ("</s>", "stop", "")):
        endpoint.answer = lambda _path, body, text=text, finish=finish: reply(text, finish)
        assert answers(pico("llama"), client_of(endpoint), 1)[0].text == wanted


def items() -> list[TextItem]:
    return [TextItem(f"row-{i}", [Message("user", f"question {i}")], text) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("top_k", [5, None])
def test_signals_equal_those_of_the_model_itself(pico, endpoint, top_k):
    source = pico("llama")
    endpoint.answer = vllm(source)
    settings = {"source": source.source, "codec": source.codec, "top_k": top_k}
    ours = list(capture_signals(source, items(), top_k=top_k, batch_tokens=512))
    theirs = list(http_signals(client_of(endpoint), items(), **settings))
    for a, b in zip(ours, theirs, strict=True):
        assert a.id == b.id and a.token_ids.tolist() == b.token_ids.tolist() and b.ce.dtype == np.float32
        np.testing.assert_allclose(a.ce, b.ce, atol=1e-4)
        assert a.topk_ids.tolist() == b.topk_ids.tolist()
        np.testing.assert_allclose(a.topk_logprobs.astype(float), b.topk_logprobs.astype(float), atol=0.02)
        np.testing.assert_allclose(a.tail.astype(float), b.tail.astype(float), atol=0.02)


def test_entries_beyond_the_tokenizer_go_into_the_tail(pico, endpoint):
    source = pico("llama", head_size=400)
    endpoint.answer = vllm(source)
    (one,) = http_signals(client_of(endpoint), items()[:1], source=source.source, codec=source.codec, top_k=40)
    kept = one.topk_logprobs > -99
    assert (one.topk_ids < source.codec.vocab_size).all() and not kept.all()
    total = np.exp(one.topk_logprobs.astype(float)).sum(axis=1) + np.exp(one.tail.astype(float))
    np.testing.assert_allclose(total, 1.0, atol=0.01)


def test_own_token_outside_the_top_k_counts_only_for_the_cross_entropy(pico, endpoint):
    source = pico("llama")
    endpoint.answer = vllm(source)
    (one,) = http_signals(client_of(endpoint), items()[:1], source=source.source, codec=source.codec, top_k=1)
    assert one.topk_ids.shape == (len(one.ce), 1)
    surprised = one.topk_ids[:, 0] != one.token_ids
    assert surprised.any() and (one.ce[surprised] > -one.topk_logprobs[surprised, 0].astype(np.float32) - 0.01).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "must return `prompt_logprobs` for every token, but returns null.*--max-logprobs"),
        ([None, {}], "but returns 2 rows for"),
        ("missing", "`row-0` has .*KeyError"),
        ("null", "`row-0` has .*log-probability -10000.0 of token"),
        ("text", "`row-0` has .*ValueError"),
    ],
)
def test_replies_that_are_no_prompt_logprobs(pico, endpoint, rows, message):
    source = pico("llama")

    def answer(_path, body):
        ids = body["prompt"]
        made = {
            "missing": [{"-1": {"logprob": -1.0}} for _ in ids],
            "null": [{str(i): {"logprob": None}} for i in ids],
            "text": [{"the": {"logprob": -1.0}} for _ in ids],
        }
        value = made[rows] if isinstance(rows, str) else rows
        return 200, {}, json.dumps({"choices": [{"prompt_logprobs": value}]}).encode()

    endpoint.answer = answer
    with pytest.raises(BackendError, match=message):
        list(http_signals(client_of(endpoint), items()[:1], source=source.source, codec=source.codec, top_k=3))


def test_a_cut_text_has_no_end_and_all_ends_count_as_one(pico, endpoint):
    """As in process: no end row for a cut text, and the end's cross-entropy sums over what ends a turn."""
    source = pico("llama")
    record = replace(source.source, end_ids=(1, 0, 2))
    several = replace(source, source=record, codec=load_codec(record))
    endpoint.answer = vllm(source)
    cut = [replace(item, ended=False) for item in items()]
    for texts in (items(), cut):
        ours = list(capture_signals(several, texts, top_k=340, batch_tokens=512))
        theirs = list(http_signals(client_of(endpoint), texts, source=record, codec=several.codec, top_k=340))
        for a, b in zip(ours, theirs, strict=True):
            assert a.token_ids.tolist() == b.token_ids.tolist()
            np.testing.assert_allclose(a.ce, b.ce, atol=1e-4)
    assert all(1 not in s.token_ids for s in theirs)


def test_a_character_that_was_cut_leaves_no_replacement_mark(pico, endpoint):
    for finish, text in (("length", "a smile "), ("stop", "a smile \ufffd")):
        endpoint.answer = lambda _path, body, finish=finish: reply("a smile \ufffd", finish=finish)
        (response,) = answers(pico("llama"), client_of(endpoint), 1)
        assert response.text == text and response.ended == (finish == "stop")
