"""What a server's refusals and broken replies mean: stop, try again, or give this request up."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

_PASSING = frozenset({408, 409, 425, 429})
_LASTING = {
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
_SPENT = re.compile(r"insufficient_quota|billing_hard_limit")  # no waiting brings it back
_UNSUPPORTED = re.compile(r"unsupported|not support(?:ed)?|unrecognized|unknown|not permitted|use 'max_completion", re.IGNORECASE)


class Fate(Enum):
    """What becomes of a request that failed.

    `STOP`: no request can succeed (key, model, address). `REFUSED`: this one cannot. `PASSING`: another attempt may.
    """

    STOP = auto()
    REFUSED = auto()
    PASSING = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    Attributes:
        what: The rule that was broken and what came instead.
        cure: What to do.
        fate: What becomes of the request.
        retry_after_s: Seconds that the server asks to wait.
        body: The server's whole text, for looking into; it may hold secrets.
    """

    what: str
    cure: str
    fate: Fate
    retry_after_s: float | None = None
    body: str = ""


def refusal(status: int, excerpt: str, *, body: str = "", retry_after: str | None = None, location: str = "") -> Failure:
    """Return what a reply with another status than 200 means (or one with 200 that holds an error of this status)."""
    said = f": {excerpt!r}" if excerpt else ""
    if 300 <= status < 400:
        what = f"must answer itself, but redirects (HTTP {status}) to {location or 'nowhere'}"
        return Failure(what, "Write the address it leads to into `runtime.endpoints`.", Fate.STOP)
    what = f"must answer with HTTP 200, but answers HTTP {status}{said}"
    if status == 429 and _SPENT.search(body):
        status = 402
    if status in _LASTING:
        return Failure(what, _LASTING[status], Fate.STOP, body=body)
    if status in _PASSING or status >= 500:
        cure = "Lower `runtime.concurrency`, or ask for a higher rate limit." if status == 429 else "See the server's log."
        return Failure(what, cure, Fate.PASSING, retry_after_s(retry_after), body)
    return Failure(what, "The server refuses the request itself: see its message.", Fate.REFUSED, body=body)


def error_status(reply: Mapping[str, Any]) -> int | None:
    """Return the status that the `error` of a reply stands for (500 where it gives none); None without an error.

    A reply with an answer has none. Routers put the error of a model behind them into its choice.
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
    """Return the seconds of a `Retry-After` (a number or a date); None where it is neither, or no time is left to wait."""
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
    """Return which option of a request a server says it does not take; None where it says nothing of the kind.

    OpenAI's newer models refuse `max_tokens` (for `max_completion_tokens`) and any `temperature` but 1.
    """
    try:
        error = json.loads(body)["error"]
        named, words = str(error.get("param")), f"{error.get('code')} {error.get('message')}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        named, words = "", body
    if not _UNSUPPORTED.search(words):
        return None
    return next((o for o in options if o == named or re.search(rf"['\"`]{o}['\"`]", words)), None)
