import json
import logging
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from models.dialogue.data.records import Entity, Turn
from models.dialogue.generators.base import Answer, DialogueItem, PromptCuts, RetrievedEntity
from models.dialogue.generators.demonstrations import DemonstrationPool
from models.dialogue.generators.in_context import ChatPrompt, InContext
from models.dialogue.generators.openai import AnswerCache, OpenAiResponder, bytes_as_tokens, request_key, text_counter
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.errors import BackendError
from models.lm.http import OpenAiClient, RetryPolicy
from models.params.dialogue import MetaKnowledgeParams
from models.schema import Message

HELLO = [Message("user", "hello")]


def test_the_key_is_of_all_that_decides_the_answer():
    keys = {
        request_key("m", HELLO, {"max_tokens": 8}),
        request_key("n", HELLO, {"max_tokens": 8}),
        request_key("m", [Message("system", "hello")], {"max_tokens": 8}),
        request_key("m", [Message("user", "hello ")], {"max_tokens": 8}),
        request_key("m", HELLO, {"max_tokens": 9}),
    }
    assert len(keys) == 5
    assert request_key("m", HELLO, {"a": 1, "b": 2}) == request_key("m", HELLO, {"b": 2, "a": 1})


def test_answers_come_back_in_another_run(tmp_path):
    with AnswerCache(tmp_path / "new") as cache:
        assert cache.get("k") is None
        cache.put("k", Answer("grüße\n\u2028 x", 5, 2, "length", PromptCuts(words=3)))
        assert len((tmp_path / "new" / "answers.jsonl").read_text().split("\n")) == 2, "on the disk before it is closed"
    with AnswerCache(tmp_path / "new") as cache:
        assert cache.get("k") == Answer("grüße\n\u2028 x", 5, 2, "length") and len(cache) == 1


def test_a_torn_last_line_is_dropped_and_the_next_answer_whole(tmp_path):
    with AnswerCache(tmp_path) as cache:
        for key in "ab":
            cache.put(key, Answer(key, 1, 1, "eos"))
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:size])
        with AnswerCache(tmp_path) as cache:
            assert cache.get("a") is not None and cache.get("b") is None
            cache.put("c", Answer("c", 1, 1, "eos"))
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


@pytest.mark.parametrize(
    "line", [b"{}", b"nonsense", b"[1]", b"null", b"\x00" * 40, b"\xff\xfe", b"", b'{"key": "x", "text": "t"}']
)
def test_a_damaged_line_costs_its_answer_only(tmp_path, caplog, line):
    with AnswerCache(tmp_path) as cache:
        for key in "ab":
            cache.put(key, Answer(key, 1, 1, "eos"))
    path = tmp_path / "answers.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    with AnswerCache(tmp_path) as cache:
        assert cache.get("a") and cache.get("b") and len(cache) == 2
        cache.put("c", Answer("c", 1, 1, "eos"))
    assert "1 lines are not answers" in caplog.text
    assert [json.loads(kept)["key"] for kept in path.read_text().splitlines()] == ["a", "b", "c"]


def test_threads_do_not_mix_lines(tmp_path):
    with AnswerCache(tmp_path) as cache:
        threads = [
            threading.Thread(target=lambda t=t: [cache.put(f"{t}/{i}", Answer("x" * 500, 1, 1, "eos")) for i in range(20)])
            for t in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with AnswerCache(tmp_path) as cache:
        assert len(cache) == 160


KEY = "sk-very-secret-123"
ENTITIES = tuple(
    RetrievedEntity(r, Entity(f"e{r}", "food", {"name": f"place {r}", "area": "north"}), EntityMeta(r + 1, 0.9, False))
    for r in range(2)
)
POOL = DemonstrationPool([Turn("a#0", "a", 0, "food", ("some food",), "try bangkok")])


def items(count: int) -> list[DialogueItem]:
    return [DialogueItem(f"z{i}#0", "food", (f"cheap food {i} please",), ENTITIES) for i in range(count)]


TWICE = RetryPolicy(attempts=2, base_s=0.01, max_s=0.02)


def patience(failure: str) -> float:
    """Seconds to wait for a reply: where none comes, little; else more than any load makes of a reply that is on its way."""
    return 1.0 if failure == "timeout" else 60.0


def client_of(endpoint, **settings) -> OpenAiClient:
    fast = RetryPolicy(attempts=3, base_s=0.01, max_s=0.02)
    return OpenAiClient(endpoint.url, **{"model": "m", "api_key": KEY, "timeout_s": 5, "retry": fast, **settings})


def in_context(**settings) -> InContext:
    meta = MetaKnowledge(MetaKnowledgeParams(), style="chat_prompt")
    return InContext(ChatPrompt(meta), **{"pool": POOL, "demonstrations": 1, "max_new_tokens": 12, **settings})


def reply(text: object, *, finish: str = "stop", usage: object = None):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


def number_of(body) -> int:
    words = body["messages"][-1]["content"].split()
    return int(words[-2]) if len(words) > 1 else -1  # a greeting


def test_the_request_holds_the_prompt_and_the_answer_its_counts(endpoint):
    endpoint.answer = lambda path, body: reply(
        "System: try place 0 .\nUser: ok", finish="length", usage={"prompt_tokens": 77, "completion_tokens": 9}
    )
    [answer] = OpenAiResponder(client_of(endpoint), in_context()).respond(items(1))
    assert answer == Answer("try place 0 .", 77, 9, "length")
    path, body, headers = endpoint.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "m" and body["max_tokens"] == 12 and body["temperature"] == 0.0
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "try bangkok"
    assert "top-2 important. name: place 1; area: north" in body["messages"][3]["content"]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": "7"}, [3]])
def test_without_usage_tokens_are_estimated(endpoint, usage):
    endpoint.answer = lambda path, body: reply("twelve bytes", usage=usage)
    [answer] = OpenAiResponder(client_of(endpoint), in_context()).respond(items(1))
    sent = endpoint.seen[0][1]["messages"]
    assert answer.num_tokens == 3
    assert answer.num_prompt_tokens == sum(bytes_as_tokens(m["content"]) + 4 for m in sent)


def test_answers_keep_their_order_and_progress_is_reported(endpoint):
    def slow_first(path, body):
        time.sleep(0.1 if number_of(body) == 0 else 0)
        return reply(f"answer {number_of(body)}")

    endpoint.answer, progress = slow_first, []
    answers = OpenAiResponder(client_of(endpoint, concurrency=4), in_context()).respond(items(6), on_progress=progress.append)
    assert [a.text for a in answers] == [f"answer {i}" for i in range(6)] and progress == [1, 2, 3, 4, 5, 6]


def test_a_long_prompt_is_cut_and_counted(endpoint, caplog):
    whole = OpenAiResponder(client_of(endpoint), in_context())
    whole.respond(items(1))
    tokens = sum(bytes_as_tokens(m["content"]) + 4 for m in endpoint.seen[0][1]["messages"])
    with caplog.at_level(logging.WARNING):
        answers = OpenAiResponder(client_of(endpoint), in_context(max_prompt_tokens=tokens - 1)).respond(items(3))
    assert [a.cuts for a in answers] == [PromptCuts(demonstrations=1)] * 3
    assert "3 of 3 prompts for m were shortened: 3 demonstrations, 0 entities" in caplog.text
    counted = OpenAiResponder(client_of(endpoint), in_context(max_prompt_tokens=10), count_text=lambda text: 0)
    assert not counted.respond(items(1))[0].cuts == PromptCuts(), "4 marks a message: 16 tokens of 4 messages"


def test_a_second_run_sends_nothing(endpoint, tmp_path):
    endpoint.answer = lambda path, body: reply(f"User: {number_of(body)}" if number_of(body) else "System: ja")
    for _ in range(2):
        with AnswerCache(tmp_path) as cache:
            answers = OpenAiResponder(client_of(endpoint), in_context(), cache=cache).respond(items(3))
        assert [a.text for a in answers] == ["ja", "", ""]
    assert len(endpoint.seen) == 3
    assert "System: ja" in (tmp_path / "answers.jsonl").read_text(), "as it came"
    with AnswerCache(tmp_path) as cache:
        OpenAiResponder(client_of(endpoint, model="other"), in_context(), cache=cache).respond(items(3))
    assert len(endpoint.seen) == 6


def slow(path, body):
    time.sleep(5 * patience("timeout"))
    return reply("too late")


def cut_json(path, body):
    return 200, {}, b'{"choices": ['


FAILURES = {
    "timeout": (slow, "must answer in time, but timed out"),
    "429": (lambda path, body: (429, {"Retry-After": "0.02"}, b"slow down"), "answers HTTP 429"),
    "500": (lambda path, body: (500, {}, b"out of memory"), "answers HTTP 500: 'out of memory'"),
    "broken JSON": (cut_json, "must answer with a JSON object"),
    "cut off": (lambda path, body: (200, {"Content-Length": "999"}, b'{"cho'), "must be reachable"),
    "400": (lambda path, body: (400, {}, b"too long"), "HTTP 400: 'too long'"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_was_answered_before_an_outage_is_kept(endpoint, tmp_path, failure):
    fail, message = FAILURES[failure]
    left = [2]

    def two_then_none(path, body):
        left[0] -= 1
        return reply(f"answer {number_of(body)}") if left[0] >= 0 else fail(path, body)

    endpoint.answer = two_then_none
    client = client_of(endpoint, timeout_s=patience(failure), concurrency=1, retry=TWICE)
    with AnswerCache(tmp_path) as cache:
        with pytest.raises(BackendError, match=message) as caught:
            OpenAiResponder(client, in_context(), cache=cache).respond(items(4))
        assert KEY not in str(caught.value)
    kept = {int(json.loads(line)["text"].split()[1]) for line in (tmp_path / "answers.jsonl").read_text().splitlines()}
    assert kept == {0, 1}
    endpoint.answer = lambda path, body: reply(f"answer {number_of(body)}")
    endpoint.seen.clear()
    with AnswerCache(tmp_path) as cache:
        answers = OpenAiResponder(client_of(endpoint), in_context(), cache=cache).respond(items(4))
    assert [a.text for a in answers] == [f"answer {i}" for i in range(4)]
    assert {number_of(body) for _, body, _ in endpoint.seen} == {2, 3}


BAD = FAILURES | {
    "no choices": (lambda path, body: (200, {}, b'{"choices": []}'), "no message"),
    "no text": (lambda path, body: reply(None), "no text"),
    "no message": (lambda path, body: (200, {}, b'{"choices": [{"index": 0}]}'), "no message"),
    "filtered": (lambda path, body: reply(None, finish="content_filter"), "content filter"),
}


@pytest.mark.parametrize("failure", BAD)
def test_one_bad_answer_is_empty_with_its_reason_and_stops_nothing(endpoint, tmp_path, failure, caplog):
    fail, message = BAD[failure]
    endpoint.answer = lambda path, body: reply(f"answer {number_of(body)}") if number_of(body) != 2 else fail(path, body)
    replied = failure not in FAILURES
    for again in range(2):
        endpoint.seen.clear()
        with AnswerCache(tmp_path) as cache:
            client = client_of(endpoint, timeout_s=patience(failure), concurrency=1, retry=TWICE)
            answers = OpenAiResponder(client, in_context(), cache=cache).respond(items(4))
        assert [a.text for a in answers] == ["answer 0", "answer 1", "", "answer 3"]
        assert [bool(a.problem) for a in answers] == [False, False, True, False]
        assert answers[2].problem == (message if replied else "no reply")
        assert f"1 of 4 answers are empty: 1 × {answers[2].problem}." in caplog.text
        assert any(number_of(body) == 2 for _, body, _ in endpoint.seen) == (not (again and replied)), "a reply is paid once"


@pytest.mark.parametrize("failure", ["429", "500", "broken JSON", "timeout"])
def test_a_passing_failure_is_tried_again(endpoint, failure):
    guard, left = threading.Lock(), [2]

    def answer(path, body):
        with guard:
            left[0] -= 1
            down = left[0] >= 0
        return FAILURES[failure][0](path, body) if down else reply("at last")

    endpoint.answer = answer
    assert OpenAiResponder(client_of(endpoint, timeout_s=patience(failure)), in_context()).respond(items(1))[0].text == "at last"
    assert len(endpoint.seen) == 3


def test_requests_keep_to_the_rate_but_cached_ones_need_none(endpoint, tmp_path):
    endpoint.answer = lambda path, body: reply("ok")
    with AnswerCache(tmp_path) as cache:
        responder = OpenAiResponder(client_of(endpoint), in_context(), cache=cache, requests_per_minute=300)
        start = time.monotonic()
        responder.respond(items(8))
        assert 0.55 < time.monotonic() - start < 3, "5 at once, then one each 0.2 s"
        start = time.monotonic()
        responder.respond(items(8))
        assert time.monotonic() - start < 0.2


def test_the_key_is_nowhere(endpoint, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda path, body: reply("ok") if number_of(body) == 0 else (401, {}, f"bad key {KEY}".encode())
    with AnswerCache(tmp_path) as cache:
        responder = OpenAiResponder(client_of(endpoint, concurrency=1), in_context(), cache=cache)
        with pytest.raises(BackendError) as caught:
            responder.respond(items(2))
    assert KEY not in str(caught.value) + caplog.text + (tmp_path / "answers.jsonl").read_text() + repr(vars(responder))


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("four", 1), ("fives", 2), ("éé", 1), ("🙂🙂", 2)])
def test_four_bytes_are_a_token(text, tokens):
    assert bytes_as_tokens(text) == tokens


def module(encoding_for_model):
    return SimpleNamespace(encoding_for_model=encoding_for_model)


def test_tiktoken_counts_where_it_knows_the_model(monkeypatch):
    encoding = SimpleNamespace(encode_ordinary=lambda text: text.split())
    monkeypatch.setitem(sys.modules, "tiktoken", module(lambda model: encoding if model == "gpt-x" else {}[model]))
    assert text_counter("gpt-x")("three small words") == 3
    assert text_counter("my-llama") is bytes_as_tokens


def test_without_tiktoken_or_network_tokens_are_estimated(monkeypatch, caplog):
    def no_network(model):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert text_counter("gpt-x") is bytes_as_tokens
    monkeypatch.setitem(sys.modules, "tiktoken", module(no_network))
    with caplog.at_level(logging.WARNING):
        assert text_counter("gpt-x") is bytes_as_tokens
    assert "cannot be fetched (ConnectionError)" in caplog.text


def test_the_real_tiktoken_does_not_know_local_models():
    pytest.importorskip("tiktoken")
    assert text_counter("tiny") is bytes_as_tokens
