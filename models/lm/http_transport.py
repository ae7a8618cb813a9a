"""HTTP transport of the endpoint client: addresses with logins, requests with a total deadline, and failures by kind."""

import asyncio
import base64
import json
import math
import re
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx

from models.errors import BackendError


class HttpLoop:
    """An httpx client on an event loop in its own thread; `post` may be called from any thread.

    The deadline covers the whole request: with a read timeout alone, a server that trickles bytes could hold it for ever.
    """

    def __init__(self, *, headers: Mapping[str, str], login: tuple[str, str] | None, timeout_s: float, connections: int) -> None:
        """Prepare; the thread starts with the first request.

        Args:
            headers: Sent with each request.
            login: User and password of basic authentication.
            timeout_s: Deadline of a request, in seconds.
            connections: Maximum number of connections.
        """
        self._headers, self._login = dict(headers), login
        self._timeout_s, self._connections = timeout_s, connections
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: httpx.AsyncClient | None = None
        self._thread: threading.Thread | None = None

    def post(self, url: httpx.URL, content: bytes) -> httpx.Response:
        """POST JSON and return the whole reply; redirects are not followed.

        Raises:
            TimeoutError: The reply is not complete within the deadline.
            httpx.HTTPError: There is no reply, or it breaks off or cannot be decoded.
        """
        return asyncio.run_coroutine_threadsafe(self._post(url, content), self._running()).result()

    def close(self) -> None:
        """Close the connections and end the thread."""
        with self._guard:
            loop, thread, http = self._loop, self._thread, self._http
            self._loop = self._thread = self._http = None
        if loop is None or thread is None:
            return
        if http is not None:
            asyncio.run_coroutine_threadsafe(http.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    async def _post(self, url: httpx.URL, content: bytes) -> httpx.Response:
        if self._http is None:
            limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
            login = httpx.BasicAuth(*self._login) if self._login else None
            self._http = httpx.AsyncClient(headers=self._headers, auth=login, timeout=None, limits=limits)
        async with asyncio.timeout(self._timeout_s):
            return await self._http.post(url, content=content, headers={"Content-Type": "application/json"})

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
                self._thread.start()
                weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)  # for one that nobody closes
            return self._loop


_TRANSIENT = frozenset({408, 409, 425, 429})
_PERMANENT = {
    401: "Check the API key in the environment.",
    402: "Check the account's balance and quota.",
    403: "Check the API key and what it may use.",
    404: "Check the base URL in `runtime.endpoints` and the model name.",
    405: "Check the base URL in `runtime.endpoints`.",
    501: "Check that the base URL is that of an OpenAI-compatible API.",
}
# How servers name what they refuse, where an error comes without a number (or in a reply with status 200).
_BY_WORD = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthorized": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "insufficient_quota": 402,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
_QUOTA_EXHAUSTED = re.compile(r"insufficient_quota|billing_hard_limit")  # no waiting brings it back
_UNSUPPORTED = re.compile(r"unsupported|not support(?:ed)?|unrecognized|unknown|not permitted|use 'max_completion", re.IGNORECASE)


class FailureKind(Enum):
    """What becomes of a request that failed.

    `STOP`: no request can succeed (key, model, address). `REFUSED`: this one cannot. `TRANSIENT`: another attempt may.
    """

    STOP = auto()
    REFUSED = auto()
    TRANSIENT = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    Attributes:
        what: The rule that was broken and what was received.
        cure: What to do.
        kind: Whether to stop, to retry, or to give up this request.
        retry_after_s: Seconds that the server asks to wait.
        body: The whole reply, to be inspected; it may contain secrets.
    """

    what: str
    cure: str
    kind: FailureKind
    retry_after_s: float | None = None
    body: str = ""


def http_failure(status: int, excerpt: str, *, body: str = "", retry_after: str | None = None, location: str = "") -> Failure:
    """Classify a reply whose status is not 200, or a 200 reply that contains an error of this status."""
    said = f": {excerpt!r}" if excerpt else ""
    if 300 <= status < 400:
        what = f"must answer itself, but redirects (HTTP {status}) to {location or 'nowhere'}"
        return Failure(what, "Write the address it leads to into `runtime.endpoints`.", FailureKind.STOP)
    what = f"must answer with HTTP 200, but answers HTTP {status}{said}"
    if status == 429 and _QUOTA_EXHAUSTED.search(body):
        status = 402
    if status in _PERMANENT:
        return Failure(what, _PERMANENT[status], FailureKind.STOP, body=body)
    if status in _TRANSIENT or status >= 500:
        cure = "Lower `runtime.concurrency`, or ask for a higher rate limit." if status == 429 else "See the server's log."
        return Failure(what, cure, FailureKind.TRANSIENT, retry_after_s(retry_after), body)
    return Failure(what, "The server rejects the request itself: see its message.", FailureKind.REFUSED, body=body)


def error_status(reply: Mapping[str, Any]) -> int | None:
    """Return the HTTP status equivalent to a reply's `error` (500 if it gives none); None without an error.

    A reply with an answer has no error. Routers put the error of an upstream model into its choice.
    """
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, dict) and _has_text(first):
        return None
    if isinstance(first, dict) and first.get("error"):
        reply = first
    error = reply if reply.get("object") == "error" else reply.get("error")
    if not error:
        return None
    rows = [error, reply] if isinstance(error, dict) else [reply]
    for value in (row.get(key) for row in rows for key in ("code", "status", "type")):
        if isinstance(value, int | str) and re.fullmatch(r"[1-5]\d\d", str(value)) and int(value) != 200:
            return int(value)
        if isinstance(value, str) and value.lower() in _BY_WORD:
            return _BY_WORD[value.lower()]
    return 500


def _has_text(choice: Mapping[str, Any]) -> bool:
    message = choice.get("message")
    return bool(choice.get("text") or (isinstance(message, dict) and message.get("content")))


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` (a number or a date); None if it is neither, or lies in the past."""
    text = (value or "").strip()
    try:
        if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # neither seconds nor a date with a zone
        return None
    return seconds if seconds > 0 and not math.isnan(seconds) else None


def refused_option(body: str, options: Mapping[str, object]) -> str | None:
    """Return which option of a request the server reports as unsupported; None if it reports none.

    OpenAI's newer models reject `max_tokens` (for `max_completion_tokens`) and any `temperature` but 1.
    """
    try:
        error = json.loads(body)["error"]
        named, words = str(error.get("param")), f"{error.get('code')} {error.get('message')}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        named, words = "", body
    if not _UNSUPPORTED.search(words):
        return None
    return next((o for o in options if o == named or re.search(rf"['\"`]{o}['\"`]", words)), None)


_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/?#@\s\[\]]+)(:\d{1,5})?")
_FULL_HOST = re.compile(r"[.:]|^localhost$")
_SECRET_NAME = re.compile(r"key|token|secret|sig|pass|auth|code", re.IGNORECASE)
_MIN_SECRET = 6  # a query value of this length counts as a secret, whatever its name


@dataclass(frozen=True, slots=True)
class Address:
    """The base URL of a server, with its secrets kept apart.

    Attributes:
        shown: Scheme, host and path, for messages.
        login: User and password of the address, if it has any; sent as basic authentication.
        secrets: What messages must not contain: the password, the encoded login, query values.
    """

    shown: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    _url: httpx.URL = field(default_factory=httpx.URL, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an http(s) address; without a path, `/v1` is added. A query is sent with every request.

        A password may hold `/`, `@`, `?` and blanks, escaped or not.

        Raises:
            BackendError: It is not an http(s) address; the message hides anything that may be a login.
        """
        scheme, separator, rest = text.strip().partition("://")
        login, rest = _split_login(rest)
        authority = _authority(rest)
        if scheme.lower() not in ("http", "https") or not separator or not _HOST.fullmatch(authority):
            raise _no_address(text)
        try:
            url = httpx.URL(f"{scheme.lower()}://{rest}").copy_with(fragment=None)
        except (httpx.InvalidURL, UnicodeError):
            url = None
        if url is None:  # outside the handler: the library's message quotes the address
            raise _no_address(text)
        path = url.path.rstrip("/") or "/v1"
        url = url.copy_with(path=path)
        base = str(url.copy_with(query=None))
        shown = (f"{url.scheme}://…{base[base.rfind('@') :]}" if "@" in base else base) + ("?…" if url.query else "")
        return cls(shown, login, tuple(_secrets(login, url)), url)

    def of(self, path: str) -> httpx.URL:
        """Return the address of a path of the API, with the query."""
        return self._url.copy_with(path=self._url.path + path)

    def show(self, path: str) -> str:
        """Return the address of a path of the API without its secrets, for messages."""
        base, mark, query = self.shown.partition("?")
        return f"{base}{path}{mark}{query}"


def _split_login(rest: str) -> tuple[tuple[str, str] | None, str]:
    """Split what follows `://` into ((user, password) or None, the rest)."""
    authority, head = _authority(rest), re.split(r"[?#]", rest, maxsplit=1)[0]
    places = [m.end() for m in re.finditer("@", head if "@" in head else rest)]
    # Before a query the last `@` ends the login, however many its password has; if it holds a `?`, the first before a host.
    hosts = [place for place in places if _FULL_HOST.search(_authority(rest[place:]))]
    end = (places or [0])[-1] if "@" in head else (hosts or places or [0])[0]
    behind = _authority(rest[end:])
    # `host:80/v1/@me` has no login; in `user:80/x@host.org` the password has a slash.
    is_path = "@" not in authority and _HOST.fullmatch(authority) and not (":" in authority and _FULL_HOST.search(behind))
    if not end or is_path:
        return None, rest
    user, _, password = rest[: end - 1].partition(":")
    return (unquote(user), unquote(password)), rest[end:]


def _authority(text: str) -> str:
    return re.split(r"[/?#]", text, maxsplit=1)[0]


def _secrets(login: tuple[str, str] | None, url: httpx.URL) -> list[str]:
    found = [value for name, value in parse_qsl(url.query.decode()) if len(value) >= _MIN_SECRET or _SECRET_NAME.search(name)]
    if login is not None:
        user, password = login
        found += [password or user, base64.b64encode(f"{user}:{password}".encode()).decode()]
    return found


def _no_address(text: str) -> BackendError:
    shown = f"…{text[text.rfind('@') :]}" if "@" in text else re.sub(r"\?.*", "?…", text, flags=re.DOTALL)
    cure = "Write http://host:port/v1; a login goes before the host, as in http://user:password@host:port/v1."
    return BackendError(f"`runtime.endpoints` must hold http(s) URLs, but {shown!r} is not one. {cure}")
