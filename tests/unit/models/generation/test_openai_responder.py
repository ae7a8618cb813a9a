import json
import logging
import threading
import time

import pytest

from models.data.dialogue import Entity, Turn
from models.errors import BackendError
from models.generation.answer_cache import AnswerCache
from models.generation.chat_prompt import ChatPrompt
from models.generation.demonstrations import DemonstrationPool
from models.generation.dialogue_item import Answer, DialogueItem, PromptCuts, RetrievedEntity
from models.generation.http import OpenAiClient, RetryPolicy
from models.generation.in_context import InContext
from models.generation.openai_responder import OpenAiResponder
from models.generation.token_estimate import bytes_as_tokens
from models.params.dialogue import MetaKnowledgeParams
from models.retrieval.meta_knowledge import EntityMeta, MetaKnowledge

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


def test_answers_keep_their_order_and_progress_is_told(endpoint):
    def slow_first(path, body):
        time.sleep(0.1 if number_of(body) == 0 else 0)
        return reply(f"answer {number_of(body)}")

    endpoint.answer, told = slow_first, []
    answers = OpenAiResponder(client_of(endpoint, concurrency=4), in_context()).respond(items(6), on_progress=told.append)
    assert [a.text for a in answers] == [f"answer {i}" for i in range(6)] and told == [1, 2, 3, 4, 5, 6]


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
