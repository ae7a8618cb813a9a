import base64
import contextlib
import html
import json
import logging
import re
import socket
import threading
import time
from urllib.parse import parse_qsl, quote, quote_plus

import pytest

from models.errors import BackendError, BadReplyError
from models.lm.http import OpenAiClient, RetryPolicy
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
    assert len(endpoint.seen) == 4, "three attempts, and one greeting to see whether the server is there"
    assert caught.value.transient and not isinstance(caught.value, BadReplyError), "a later attempt may succeed"


def test_an_outage_is_reported_once_per_attempt_not_per_request(endpoint, replies, caplog):
    endpoint.answer = replies((503, {}, b"model is loading"))
    with client_of(endpoint, concurrency=4) as client, caplog.at_level(logging.WARNING), pytest.raises(BackendError):
        client.map(lambda _: client.chat(HELLO), range(4))
    assert len(caplog.records) == FAST.attempts - 1
    endpoint.answer = replies(ok("back"), (503, {}, b"away again"), ok("back"))
    with client_of(endpoint) as client, caplog.at_level(logging.WARNING):
        client.chat(HELLO)
        client.chat(HELLO)
    assert "away again" in caplog.records[-1].getMessage() and len(caplog.records) == FAST.attempts


@pytest.mark.parametrize(("status", "cure"), [(401, "API key"), (403, "API key"), (404, "model name"), (308, "address it leads")])
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
    assert len(endpoint.seen) == 3


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


@pytest.mark.parametrize("data", [b"{}", b'{"choices": null}', b'{"status": "up"}'])
def test_reply_without_choices(endpoint, replies, data):
    endpoint.answer = replies((200, {}, data))
    with pytest.raises(BackendError, match="must answer with `choices`"):
        client_of(endpoint).chat(HELLO)


@pytest.mark.parametrize("data", [b'{"choices": []}', b'{"choices": ["x"]}', b'{"choices": [null], "usage": null}'])
def test_an_empty_choice_is_an_answer(endpoint, replies, data):
    endpoint.answer = replies((200, {}, data))
    assert client_of(endpoint).chat(HELLO) == {"usage": None}


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


def poisoned(fail):
    """An answer function that fails on one prompt only."""
    return lambda path, body: fail if body["messages"][-1]["content"] == "poison" else ok("fine")


GZIP = {"Content-Encoding": "gzip"}
BROKEN = {
    "400": ((400, {}, b"this prompt is too long"), 1, "too long"),
    "500": ((500, {}, b"crashed"), 3, "crashed"),
    "529": ((529, {}, b"overloaded"), 3, "HTTP 529"),
    "error in 200": ((200, {}, b'{"error": {"message": "busy", "code": 529}}'), 3, "HTTP 529"),
    "error text in 200": ((200, {}, b'{"error": "out of memory"}'), 3, "out of memory"),
    "refused in 200": ((200, {}, b'{"error": {"code": "context_length_exceeded"}}'), 1, "HTTP 400"),
    "HTML": ((200, {"Content-Type": "text/html"}, b"<html>"), 3, "JSON object"),
    "cut JSON": ((200, {}, b'{"choices": [{"mess'), 3, "JSON object"),
    "deep JSON": ((200, {}, b"[" * 100_000), 3, "JSON object"),
    "cut off": ((200, {"Content-Length": "99"}, b'{"choices'), 3, "must be reachable"),
    "gzip garbage": ((200, GZIP, b"no gzip at all"), 3, "Content-Encoding"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_bad_request_is_distinguished_from_a_server_that_is_away(endpoint, name):
    fail, attempts, message = BROKEN[name]
    endpoint.answer = poisoned(fail)
    with client_of(endpoint, timeout_s=2) as client:
        with pytest.raises(BadReplyError, match=message):
            client.chat([Message("user", "poison")])
        asked = [body["messages"][0]["content"] for _, body, _ in endpoint.seen]
        assert asked == ["poison"] * attempts + ["Hello"] + ["poison"] * (attempts > 1)
        client.chat(HELLO)
        endpoint.answer = lambda path, body: fail
        with pytest.raises(BackendError) as caught:
            client.chat([Message("user", "poison")])
    assert not isinstance(caught.value, BadReplyError) and caught.value.transient == (attempts > 1)


def test_what_fails_until_the_server_is_back_is_answered(endpoint, replies):
    endpoint.answer = replies(*[(503, {}, b"restarting")] * FAST.attempts, ok("greeting"), ok("back"))
    assert client_of(endpoint).chat(HELLO)["message"]["content"] == "back"


@pytest.mark.parametrize("code", ['"invalid_api_key"', "401", '"401"'])
def test_a_refused_key_in_a_reply_with_status_200_stops_at_once(endpoint, replies, code):
    endpoint.answer = replies((200, {}, b'{"error": {"code": %s}}' % code.encode()), ok("never"))
    with pytest.raises(BackendError, match="API key") as caught:
        client_of(endpoint).chat(HELLO)
    assert len(endpoint.seen) == 1 and not caught.value.transient and not isinstance(caught.value, BadReplyError)


def test_a_deadline_holds_for_the_whole_reply(endpoint):
    """A server that sends a byte now and then meets any time-out between reads."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                connection.sendall(b" ")
        connection.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    start = time.monotonic()
    with OpenAiClient(url, model="m", timeout_s=0.2, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(BackendError, match="timed out"):
            client.chat(HELLO)
    assert time.monotonic() - start < 2
    stop.set()
    listener.close()


def test_a_model_that_refuses_an_option_is_asked_without_it(endpoint, caplog):
    def newer(_path, body):
        if "max_tokens" in body:
            return (
                400,
                {},
                b'{"error": {"message": "Unsupported parameter: \'max_tokens\'. Use \'max_completion_tokens\' instead."}}',
            )
        if body.get("temperature") == 0:
            error = {"message": "does not support 0 with this model", "param": "temperature", "code": "unsupported_value"}
            return 400, {}, json.dumps({"error": error}).encode()
        return ok("fine")

    endpoint.answer = newer
    client = client_of(endpoint)
    for _ in range(2):
        assert client.chat(HELLO, max_tokens=7, temperature=0, seed=1)["message"]["content"] == "fine"
    assert len(endpoint.seen) == 4, "it is logged once"
    assert {k: v for k, v in endpoint.seen[-1][1].items() if k not in ("model", "messages")} == {
        "seed": 1,
        "max_completion_tokens": 7,
    }
    assert ["max_tokens" in r.message for r in caplog.records] == [True, False], "both are logged"


def test_half_surrogates_are_sent_as_replacement_characters(endpoint):
    client_of(endpoint).chat([Message("user", "a \ud83d b")])
    assert endpoint.seen[0][1]["messages"][0]["content"] == "a \ufffd b"


KEYS = [KEY, 'sk-"quoted"\\zebra\\slash', "sk-with blanks/and+signs=", "sk-<marked>&'co'"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("status", [200, 401])
def test_an_echoed_key_is_hidden_before_the_text_is_cut(endpoint, key, status, caplog):
    """Wherever the cut falls, and however the server writes the key."""
    caplog.set_level(logging.INFO)
    forms = [
        key,
        json.dumps(key),
        json.dumps(json.dumps(key)),
        repr(key),
        quote(key),
        quote_plus(key),
        html.escape(key),
    ]
    client = client_of(endpoint, api_key=key, retry=RetryPolicy(attempts=1))
    for form in forms:
        for offset in (0, 285):
            body = f"{'x' * offset} Authorization: Bearer {form}".encode()
            endpoint.answer = lambda path, _, body=body: (status, {"Location": f"/?k={quote(key)}"}, body)
            with pytest.raises(BackendError) as caught:
                client.chat(HELLO)
            assert not re.search(r"\bsk-|quoted|zebra|blanks|marked", str(caught.value) + caplog.text, re.IGNORECASE), form


@pytest.mark.parametrize("password", ["hunter2", "a/b", "a@b", "a b", "a?b#c", "1/2"])
def test_a_login_in_the_address_is_sent_but_never_shown(endpoint, password, caplog):
    caplog.set_level(logging.DEBUG)
    url = endpoint.url.replace("http://", f"http://user:{password}@") + "/v1?token=to/ke@n x&v=1"
    client = OpenAiClient(url, model="m", retry=RetryPolicy(attempts=1))
    client.chat(HELLO)
    path, _, headers = endpoint.seen[0]
    assert headers["Authorization"] == "Basic " + base64.b64encode(f"user:{password}".encode()).decode()
    assert path.startswith("/v1/chat/completions?") and dict(parse_qsl(path.partition("?")[2])) == {
        "token": "to/ke@n x",
        "v": "1",
    }
    endpoint.answer = lambda path, body: (500, {}, f"{path} {headers['Authorization']} {password}".encode())
    with pytest.raises(BackendError) as caught:
        client.chat(HELLO)
    shown = str(caught.value) + caplog.text + repr(client) + client.base_url
    for secret in (password, quote(password, safe=""), "ke@n", "to/ke", headers["Authorization"].split()[1]):
        assert secret not in shown
    assert "127.0.0.1" in repr(client)


@pytest.mark.parametrize(
    "url", ["ftp://user:secret@host", "http://user:secret@", "http://user:secret@ho st:x/v1", "user:secret@host"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(BackendError, match="must hold http") as caught:
        OpenAiClient(url, model="m")
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__ or error.__context__
