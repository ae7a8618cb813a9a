"""A loopback HTTP server with scripted answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Endpoint:
    """`answer(path, body)` decides; `seen` holds (path, body, headers) of every request."""

    answer: Callable[[str, dict[str, Any]], Reply]
    url: str = ""
    seen: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)


def ok(value: object) -> Reply:
    return 200, {}, json.dumps(value).encode()


def chat_reply(text: object, finish: str = "stop", tokens: int = 3) -> Reply:
    return ok({"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": {"completion_tokens": tokens}})


@contextmanager
def served(reply: Callable[[str, dict[str, Any], dict[str, str]], Reply]) -> Iterator[str]:
    """Answer POST requests with `reply(path, body, headers)` on a loopback address of its own, which is yielded."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, data = reply(self.path, body, dict(self.headers))
            try:
                self.send_response(status)
                for key, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client timed out and left
                pass

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint(answer=lambda path, body: chat_reply("hello"))

    def reply(path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        state.seen.append((path, body, headers))
        return state.answer(path, body)

    with served(reply) as state.url:
        yield state


@pytest.fixture
def replies() -> Callable[..., Callable[[str, dict[str, Any]], Reply]]:
    """`replies(a, b, c)`: an answer function that gives a, b, c in turn (a reply or a callable), then c for ever."""

    def make(*script: Reply) -> Callable[[str, dict[str, Any]], Reply]:
        lock, left = threading.Lock(), list(script)

        def answer(_path: str, _body: dict[str, Any]) -> Reply:
            with lock:
                return left.pop(0) if len(left) > 1 else left[0]

        return answer

    return make
