import logging
import threading
import time
from email.utils import formatdate

import pytest

from models.errors import BackendError
from models.generation.http import OpenAiClient, RetryPolicy, _retry_after
from models.schema import Message

KEY = "sk-very-secret-123"
HELLO = [Message("user", "hello")]
FAST = RetryPolicy(attempts=3, base_s=0.01, max_s=0.02)


def client_of(endpoint, **settings) -> OpenAiClient:
    return OpenAiClient(endpoint.url, **{"model": "m", "api_key": KEY, "timeout_s": 5, "retry": FAST, **settings})


def ok(text: str):
    return 200, {}, b'{"choices": [{"message": {"content": "%s"}}], "usage": {"completion_tokens": 1}}' % text.encode()


def test_request_has_model_messages_options_and_key(endpoint):
    with client_of(endpoint) as client:
        choice = client.chat(HELLO, temperature=0.5)
    path, body, headers = endpoint.seen[0]
    assert path == "/v1/chat/completions"
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert choice["message"]["content"] == "hello" and choice["usage"] == {"completion_tokens": 3}


def test_no_key_sends_no_authorization(endpoint):
    client_of(endpoint, api_key=None).complete([1, 2], max_tokens=1)
    path, body, headers = endpoint.seen[0]
    assert path == "/v1/completions" and body["prompt"] == [1, 2] and "Authorization" not in headers


@pytest.mark.parametrize(("given", "used"), [("", "/v1"), ("/", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/api/v2", "/api/v2")])
def test_base_url_gets_v1_only_without_a_path(given, used):
    assert OpenAiClient("http://host:80" + given, model="m").base_url.endswith("host" + used)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://"])
def test_bad_base_url(url):
    with pytest.raises(BackendError, match="must hold http"):
        OpenAiClient(url, model="m")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_transient_refusals_are_tried_again(endpoint, replies, status):
    endpoint.answer = replies((status, {}, b"busy"), (status, {}, b"busy"), ok("at last"))
    assert client_of(endpoint).chat(HELLO)["message"]["content"] == "at last"
    assert len(endpoint.seen) == 3


def test_after_the_last_attempt_the_error_says_all(endpoint, replies):
    endpoint.answer = replies((503, {}, b"model is loading"))
    with pytest.raises(BackendError) as caught:
        client_of(endpoint).chat(HELLO)
    text = str(caught.value)
    assert f"{endpoint.url}/v1/chat/completions (model `m`) must answer with HTTP 200, but answers HTTP 503" in text
    assert "model is loading" in text and "after 3 attempts" in text and "server's log" in text
    assert len(endpoint.seen) == 3
    assert caught.value.transient, "a later attempt may succeed"


def test_an_outage_is_told_once_per_attempt_not_per_request(endpoint, replies, caplog):
    endpoint.answer = replies((503, {}, b"model is loading"))
    with client_of(endpoint, concurrency=4) as client, caplog.at_level(logging.WARNING), pytest.raises(BackendError):
        client.map(lambda _: client.chat(HELLO), range(4))
    assert len(caplog.records) == FAST.attempts - 1
    endpoint.answer = replies(ok("back"), (503, {}, b"away again"), ok("back"))
    with client_of(endpoint) as client, caplog.at_level(logging.WARNING):
        client.chat(HELLO)
        client.chat(HELLO)
    assert "away again" in caplog.records[-1].getMessage() and len(caplog.records) == FAST.attempts


@pytest.mark.parametrize(("status", "cure"), [(400, "refuses the request"), (401, "API key"), (404, "model name")])
def test_lasting_refusals_are_not_tried_again(endpoint, replies, status, cure):
    endpoint.answer = replies((status, {}, b"no"), ok("never"))
    with pytest.raises(BackendError, match=cure) as caught:
        client_of(endpoint).chat(HELLO)
    assert len(endpoint.seen) == 1 and not caught.value.transient


def test_retry_after_is_waited_for(endpoint, replies):
    endpoint.answer = replies((429, {"Retry-After": "0.3"}, b"slow down"), ok("fine"))
    start = time.monotonic()
    client_of(endpoint).chat(HELLO)
    assert 0.28 < time.monotonic() - start < 3


def test_retry_after_may_be_a_date():
    assert 57 < _retry_after(formatdate(time.time() + 60, usegmt=True)) < 61
    assert _retry_after("12") == 12
    assert [_retry_after(v) for v in ("soon", "nan", "", None)] == [None] * 4


def test_retry_after_is_bounded(endpoint, replies):
    endpoint.answer = replies((429, {"Retry-After": "3600"}, b""), (429, {"Retry-After": "soon"}, b""), ok("fine"))
    start = time.monotonic()
    client_of(endpoint, retry=RetryPolicy(attempts=3, base_s=0.01, max_retry_after_s=0.05)).chat(HELLO)
    assert time.monotonic() - start < 1


def test_back_off_doubles_up_to_its_limit(endpoint):
    client = client_of(endpoint, retry=RetryPolicy(base_s=1.0, max_s=5.0))
    for attempt, most in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)]:
        delays = [client._delay(attempt, None) for _ in range(50)]
        assert most / 2 <= min(delays) and max(delays) <= most and len(set(delays)) > 10


def test_timeouts_are_tried_again_then_named(endpoint, replies):
    late = threading.Event()

    def slow(_path, _body):
        late.wait(2)
        return ok("too late")

    endpoint.answer = slow
    with pytest.raises(BackendError, match=r"must answer in time, but timed out.*after 2 attempts.*`runtime\.timeout_s`"):
        client_of(endpoint, timeout_s=0.1, retry=RetryPolicy(attempts=2, base_s=0.01)).chat(HELLO)
    late.set()
    assert len(endpoint.seen) == 2


def test_nobody_listens():
    client = OpenAiClient("http://127.0.0.1:9", model="m", retry=FAST)
    with pytest.raises(BackendError, match=r"must be reachable, but is not.*`runtime\.endpoints`"):
        client.chat(HELLO)


def test_broken_json_is_tried_again_then_shown(endpoint, replies):
    endpoint.answer = replies((200, {}, b"<html>"), ok("fine"))
    assert client_of(endpoint).chat(HELLO)["message"]["content"] == "fine"
    endpoint.answer = replies((200, {}, b"[1, 2"))
    with pytest.raises(BackendError, match=r"must answer with a JSON object, but answers '\[1, 2'"):
        client_of(endpoint).chat(HELLO)


@pytest.mark.parametrize("data", [b"{}", b'{"choices": []}', b'{"choices": ["x"]}'])
def test_reply_without_choices(endpoint, replies, data):
    endpoint.answer = replies((200, {}, data))
    with pytest.raises(BackendError, match="must answer with `choices`"):
        client_of(endpoint).chat(HELLO)


def test_key_is_in_no_error_log_or_repr(endpoint, replies, caplog):
    caplog.set_level(logging.DEBUG)
    echo = f"Incorrect API key provided: {KEY}".encode()
    endpoint.answer = replies((500, {}, echo), (401, {}, echo))
    client = client_of(endpoint)
    with pytest.raises(BackendError) as caught:
        client.chat(HELLO)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert "***" in str(caught.value) and KEY not in caplog.text + repr(client)
    endpoint.answer = replies((200, {}, b'{"error": "%s"}' % echo))
    with pytest.raises(BackendError) as caught:
        client.chat(HELLO)
    assert KEY not in str(caught.value)


def test_key_with_line_end_is_trimmed_and_a_broken_one_refused_unseen(endpoint):
    client_of(endpoint, api_key=KEY + "\n").chat(HELLO)
    assert endpoint.seen[0][2]["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(BackendError, match="must be printable ASCII") as caught:
        client_of(endpoint, api_key="sk-\nsecret")
    assert "secret" not in str(caught.value)


def test_login_in_the_url_is_not_shown():
    client = OpenAiClient("http://user:hunter2@127.0.0.1:9/v1", model="m", retry=RetryPolicy(attempts=1))
    with pytest.raises(BackendError) as caught:
        client.chat(HELLO)
    assert "hunter2" not in str(caught.value) + repr(client)


def test_map_keeps_order_bounds_concurrency_and_reports(endpoint):
    lock, running, most, seen = threading.Lock(), 0, 0, []

    def work(i: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02 if i % 3 else 0.05)
        with lock:
            running -= 1
        return i * i

    assert client_of(endpoint, concurrency=3).map(work, range(12), on_progress=seen.append) == [i * i for i in range(12)]
    assert most == 3 and seen == list(range(1, 13))


def test_map_stops_at_the_first_error(endpoint):
    started = []

    def work(i: int) -> int:
        started.append(i)
        time.sleep(0.02)
        if i == 1:
            raise BackendError("broken")
        return i

    with pytest.raises(BackendError, match="broken"):
        client_of(endpoint, concurrency=2).map(work, range(100))
    assert len(started) < 20
