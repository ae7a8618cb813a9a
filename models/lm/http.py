"""A client of OpenAI-compatible servers: bounded concurrency, retries that honour `Retry-After`, errors without secrets."""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from typing_extensions import override

from models.corpus.text import replace_lone_surrogates
from models.errors import BackendError, BadReplyError
from models.lm.http_transport import Address, Failure, FailureKind, HttpLoop, error_status, http_failure, refused_option
from models.redaction import excerpt, redact
from models.schema import Message

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")
_EXCERPT = 300  # characters of a reply shown in an error
# What every server answers; sent to see whether it does.
_PROBES: Mapping[str, Mapping[str, object]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
    "/completions": {"prompt": "Hello", "max_tokens": 1},
}
_NEWER_NAMES = {"max_tokens": "max_completion_tokens"}
_OPTIONAL = frozenset({"temperature", "top_p", "seed"})
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class _SecretFilter(logging.Filter):
    """Redacts secrets in log records: httpx logs whole addresses, httpcore headers."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage(), secrets=self._secrets), ()
        return True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off: `base_s` doubled each time up to `max_s`, times a random factor in [0.5, 1).

    A server's `Retry-After` (seconds or a date) takes precedence, up to `max_retry_after_s`.
    """

    attempts: int = 6
    base_s: float = 0.5
    max_s: float = 30.0
    max_retry_after_s: float = 120.0


class OpenAiClient:
    """Client of one model on one server; thread-safe, and a context manager.

    A request that fails for good is distinguished from a server that is down: if the server still answers another request,
    this one is at fault (`BadReplyError`), and the others may go on.

    Neither `repr` nor any error or log line holds the API key or a password of the address, even where a server echoes them.
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
            api_key: Sent as a bearer token, unless the address has a login; None sends none.
            timeout_s: Deadline in seconds for one request with its whole reply; then it is retried.
            concurrency: Requests in flight.
            retry: When to try again.

        Raises:
            BackendError: `base_url` is not an http(s) URL, or the key is not printable ASCII (a header could not carry it).
        """
        self._address = Address.parse(base_url)
        self.base_url = self._address.shown
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError(
                f"The API key for {self.base_url} must be printable ASCII, but is not. Set it again without line ends."
            )
        self.model = model
        self.concurrency = concurrency
        # One or two characters are not a secret, and redacting them would garble every message.
        self._secrets = tuple(secret for secret in (key, *self._address.secrets) if len(secret) > 2)
        self._retry = retry or RetryPolicy()
        self._guard = threading.Lock()
        self._warned, self._answered = 0, 0  # last attempt that was logged; requests that got a reply
        self._good: dict[str, Mapping[str, object]] = {}  # path → a request that was answered
        self._refused: set[str] = set()  # options that the model does not take
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = HttpLoop(headers=headers, login=self._address.login, timeout_s=timeout_s, connections=concurrency)
        self._filter = _SecretFilter(self._secrets)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def __repr__(self) -> str:
        return f"OpenAiClient({self.base_url!r}, model={self.model!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)

    def chat(self, messages: Sequence[Message], **options: object) -> dict[str, Any]:
        """POST `/chat/completions` and return the first choice, with the reply's `usage` under that key.

        Where a model takes `max_completion_tokens` only, `max_tokens` is sent under that name.

        Raises:
            BadReplyError: This request got no usable reply after all attempts, but others do.
            BackendError: The server does not answer, or refuses key, model or address.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return self._first_choice("/chat/completions", {"model": self.model, "messages": turns, **options})

    def complete(self, prompt: str | Sequence[int], **options: object) -> dict[str, Any]:
        """POST `/completions` with text or token ids and return the first choice, with the reply's `usage` under that key.

        Raises:
            BadReplyError, BackendError: As in `chat`.
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

    def excerpt(self, value: object, *, limit: int = _EXCERPT) -> str:
        """Return the beginning of a reply for an error message; secrets are redacted before it is cut."""
        if isinstance(value, str):
            return repr(excerpt(replace_lone_surrogates(value), limit, secrets=self._secrets))
        return excerpt(replace_lone_surrogates(json.dumps(value, ensure_ascii=False, default=repr)), limit, secrets=self._secrets)

    def error(self, path: str, what: str, *, cure: str, transient: bool = False) -> BackendError:
        """Build the error for a reply that violates the API; secrets in `what` are redacted."""
        return BackendError(self._line(path, what, cure), transient=transient)

    def _line(self, path: str, what: str, cure: str) -> str:
        return f"{self._address.show(path)} (model `{self.model}`) {redact(what, secrets=self._secrets)}. {cure}"

    def _first_choice(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        reply = self._post(path, body)
        choices = reply["choices"]
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        return {**first, "usage": reply.get("usage")}

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        attempt = 1
        while True:
            before, outcome = self._answered, self._try(path, body)
            if not isinstance(outcome, Failure):
                self._note(path, body)
                return outcome
            if outcome.kind is FailureKind.STOP:
                raise BackendError(self._line(path, outcome.what, outcome.cure))
            if outcome.kind is FailureKind.REFUSED or attempt >= self._retry.attempts:
                return self._give_up(path, body, outcome, attempts=attempt, before=before)
            delay = self._delay(attempt, outcome.retry_after_s)
            self._warn(f"{self._line(path, outcome.what, f'Trying again in {delay:.1f} s.')}", attempt)
            time.sleep(delay)
            attempt += 1

    def _give_up(self, path: str, body: Mapping[str, object], failure: Failure, *, attempts: int, before: int) -> dict[str, Any]:
        """Find out whether the request or the server is at fault, and raise the matching error."""
        tries = f" (after {attempts} attempts)" if attempts > 1 else ""
        line = self._line(path, failure.what + tries, failure.cure)
        if self._answered == before and not self._server_responds(path):
            raise BackendError(line, transient=failure.kind is FailureKind.TRANSIENT)
        if failure.kind is FailureKind.TRANSIENT:  # the server may have been away until just now
            again = self._try(path, body)
            if not isinstance(again, Failure):
                self._note(path, body)
                return again
        raise BadReplyError(line)

    def _server_responds(self, path: str) -> bool:
        """Whether the server answers a request it has answered before, or else a minimal one."""
        known = self._good.get(path, {"model": self.model, **_PROBES[path]})
        alive = not isinstance(self._try(path, known), Failure)
        if alive:
            self._note(path, known)
        return alive

    def _note(self, path: str, body: Mapping[str, object]) -> None:
        with self._guard:
            self._warned = 0
            self._answered += 1
            self._good[path] = body

    def _warn(self, text: str, attempt: int) -> None:
        """Log a failed attempt, once for all requests in flight that meet the same outage."""
        with self._guard:
            first, self._warned = attempt > self._warned, max(attempt, self._warned)
        if first:
            _log.warning("%s", text)

    def _try(self, path: str, body: Mapping[str, object]) -> dict[str, Any] | Failure:
        """Send a request once, and again without each option that the model refuses."""
        while True:
            sent = self._accepted(body)
            outcome = self._send(path, sent)
            if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.REFUSED:
                return outcome
            option = refused_option(outcome.body, {o: sent[o] for o in (*_NEWER_NAMES, *_OPTIONAL) if o in sent})
            if option is None:
                return outcome
            with self._guard:
                already_logged, self._refused = option in self._refused, self._refused | {option}
            if not already_logged:
                instead = f"sent as `{_NEWER_NAMES[option]}`" if option in _NEWER_NAMES else "left out: the server decides"
                _log.warning("%r does not take `%s`, which is %s", self, option, instead)

    def _accepted(self, body: Mapping[str, object]) -> dict[str, object]:
        kept = {k: v for k, v in body.items() if k not in self._refused}
        return kept | {_NEWER_NAMES[k]: body[k] for k in self._refused & _NEWER_NAMES.keys() & body.keys()}

    def _send(self, path: str, body: Mapping[str, object]) -> dict[str, Any] | Failure:
        content = replace_lone_surrogates(json.dumps(body, ensure_ascii=False)).encode()
        try:
            reply = self._http.post(self._address.of(path), content)
        except TimeoutError:
            cure = "Raise `runtime.timeout_s`, lower `runtime.concurrency`, or find out why the server is slow."
            return Failure("must answer in time, but timed out", cure, FailureKind.TRANSIENT)
        except httpx.DecodingError as err:
            cure = "Check that the base URL is that of an OpenAI-compatible API."
            return Failure(f"must be encoded as its `Content-Encoding` says, but is not ({err})", cure, FailureKind.TRANSIENT)
        except httpx.HTTPError as err:
            cure = "Check that the server runs and that `runtime.endpoints` names its address."
            return Failure(f"must be reachable, but is not ({type(err).__name__}: {err})", cure, FailureKind.TRANSIENT)
        return self._read(reply)

    def _read(self, reply: httpx.Response) -> dict[str, Any] | Failure:
        text = reply.content.decode("utf-8-sig", "replace")
        shown = excerpt(text, _EXCERPT, secrets=self._secrets)
        if reply.status_code != 200:
            headers = {"retry_after": reply.headers.get("Retry-After"), "location": reply.headers.get("Location", "")}
            return http_failure(reply.status_code, shown, body=text, **headers)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        status = error_status(value) if isinstance(value, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list) and status is None:
            return value
        if status is not None:
            return http_failure(status, shown, body=text)
        form = "`choices`" if isinstance(value, dict) else "a JSON object"
        cure = "Check that the base URL is that of an OpenAI-compatible API."
        return Failure(f"must answer with {form}, but answers {shown!r}", cure, FailureKind.TRANSIENT)

    def _delay(self, attempt: int, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(retry_after_s, self._retry.max_retry_after_s)
        return float(min(self._retry.base_s * 2 ** (attempt - 1), self._retry.max_s) * random.uniform(0.5, 1.0))
