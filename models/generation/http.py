"""A client of OpenAI-compatible servers: bounded concurrency, retries that listen to the server, errors without secrets."""

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from models.errors import BackendError
from models.schema import Message

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXCERPT = 300  # characters of a body shown in an error
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to wait: `base_s` doubled each time up to `max_s`, times a random factor in [0.5, 1).

    A `Retry-After` of the server (seconds or a date) is waited for instead, up to `max_retry_after_s`.
    """

    attempts: int = 6
    base_s: float = 0.5
    max_s: float = 30.0
    max_retry_after_s: float = 120.0


@dataclass(frozen=True, slots=True)
class _Failure:
    what: str
    cure: str
    retry: bool
    retry_after_s: float | None = None


class OpenAiClient:
    """Talks to one model of one server. Safe to share between threads; a context manager.

    Neither `repr` nor any error or log line holds the API key, even where a server echoes it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        concurrency: int = 8,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare the client; nothing is sent.

        Args:
            base_url: Such as `http://127.0.0.1:8000/v1`; without a path, `/v1` is added.
            model: Model name sent with each request.
            api_key: Sent as a bearer token; None sends none.
            timeout_s: Seconds until one request is given up (and retried).
            concurrency: Requests in flight.
            retry: When to try again.

        Raises:
            BackendError: `base_url` is no http(s) URL, or the key is not printable ASCII (a header could not carry it).
        """
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError(f"The API key for {base_url} must be printable ASCII, but is not. Set it again without line ends.")
        self.base_url = _normalised(base_url)
        self.model = model
        self.concurrency = concurrency
        self._secret = key
        self._retry = retry or RetryPolicy()
        self._warned, self._guard = 0, threading.Lock()  # last attempt that was told of
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http = httpx.Client(headers=headers, timeout=timeout_s, limits=limits)

    def __repr__(self) -> str:
        return f"OpenAiClient({_without_login(self.base_url)!r}, model={self.model!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chat(self, messages: Sequence[Message], **options: object) -> dict[str, Any]:
        """POST `/chat/completions` and return the first choice, with the reply's `usage` under that key.

        Raises:
            BackendError: No usable answer after all attempts.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return self._first_choice("/chat/completions", {"model": self.model, "messages": turns, **options})

    def complete(self, prompt: str | Sequence[int], **options: object) -> dict[str, Any]:
        """POST `/completions` with a text or token ids and return the first choice, with the reply's `usage` under that key.

        Raises:
            BackendError: No usable answer after all attempts.
        """
        sent = prompt if isinstance(prompt, str) else [int(i) for i in prompt]
        return self._first_choice("/completions", {"model": self.model, "prompt": sent, **options})

    def map(
        self, call: Callable[[_Item], _Result], items: Iterable[_Item], *, on_progress: Callable[[int], None] | None = None
    ) -> list[_Result]:
        """Call `call` on every item, `concurrency` at a time; results in input order. The first error stops the rest."""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(call, item) for item in items]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    if on_progress is not None:
                        on_progress(done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def error(self, path: str, what: str, *, cure: str, transient: bool = False) -> BackendError:
        """Build the error of a reply that breaks the interface; secrets in `what` are blanked."""
        where = f"{_without_login(self.base_url)}{path} (model `{self.model}`)"
        return BackendError(f"{where} {self._redacted(what)}. {cure}", transient=transient)

    def _first_choice(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        reply = self._post(path, body)
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self.error(path, f"must answer with `choices`, but answers {reply!r:.{_EXCERPT}}", cure="Check the base URL.")
        return {**choices[0], "usage": reply.get("usage")}

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        attempt = 1
        while isinstance(outcome := self._try(path, body), _Failure):
            if not outcome.retry or attempt >= self._retry.attempts:
                tries = f" (after {attempt} attempts)" if attempt > 1 else ""
                raise self.error(path, outcome.what + tries, cure=outcome.cure, transient=outcome.retry)
            delay = self._delay(attempt, outcome.retry_after_s)
            self._warn(f"{self}{path} {self._redacted(outcome.what)}; trying again in {delay:.1f} s", attempt)
            time.sleep(delay)
            attempt += 1
        self._warned = 0
        return outcome

    def _warn(self, text: str, attempt: int) -> None:
        """Tell of a failed attempt, but only once for all the requests in flight that meet the same outage."""
        with self._guard:
            first, self._warned = attempt > self._warned, max(attempt, self._warned)
        if first:
            _log.warning("%s", text)

    def _try(self, path: str, body: Mapping[str, object]) -> dict[str, Any] | _Failure:
        try:
            reply = self._http.post(self.base_url + path, json=body)
        except httpx.TimeoutException as err:
            cure = "Raise `runtime.timeout_s`, lower `runtime.concurrency`, or see why the server is slow."
            return _Failure(f"must answer in time, but timed out ({type(err).__name__})", cure, retry=True)
        except httpx.HTTPError as err:
            cure = "Check that the server runs and that `runtime.endpoints` names its address."
            return _Failure(f"must be reachable, but is not ({type(err).__name__}: {err})", cure, retry=True)
        if reply.status_code != 200:
            return _refusal(reply)
        try:
            value = reply.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            what = f"must answer with a JSON object, but answers {_excerpt(reply)}"
            return _Failure(what, "Check that the base URL is that of an OpenAI-compatible API.", retry=True)
        return value

    def _delay(self, attempt: int, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(max(retry_after_s, 0.0), self._retry.max_retry_after_s)
        return float(min(self._retry.base_s * 2 ** (attempt - 1), self._retry.max_s) * random.uniform(0.5, 1.0))

    def _redacted(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


def _normalised(base_url: str) -> str:
    try:
        url = httpx.URL(base_url.strip().rstrip("/"))
    except httpx.InvalidURL as err:
        raise BackendError(f"`runtime.endpoints` must hold http(s) URLs, but {base_url!r} is none ({err}).") from err
    if url.scheme not in ("http", "https") or not url.host:
        raise BackendError(f"`runtime.endpoints` must hold http(s) URLs, but {base_url!r} is none. Write http://host:port/v1.")
    return str(url).rstrip("/") + ("/v1" if url.path in ("", "/") else "")


def _without_login(url: str) -> str:
    parsed = httpx.URL(url)
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url


def _refusal(reply: httpx.Response) -> _Failure:
    what = f"must answer with HTTP 200, but answers HTTP {reply.status_code}: {_excerpt(reply)}"
    cures = {
        400: "The server refuses the request itself: see its message.",
        401: "Check the API key in the environment.",
        403: "Check the API key and what it may use.",
        404: "Check the base URL in `runtime.endpoints` and the model name.",
        429: "Lower `runtime.concurrency`, or ask for a higher rate limit.",
    }
    cure = cures.get(reply.status_code, "See the server's log.")
    return _Failure(what, cure, retry=reply.status_code in _RETRIED, retry_after_s=_retry_after(reply.headers.get("Retry-After")))


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdecimal() or re.fullmatch(r"\d+\.\d+", value.strip()):
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # neither seconds nor a date with a zone: back off as usual
        return None


def _excerpt(reply: httpx.Response) -> str:
    text = " ".join(reply.text.split())
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…")
