"""An OpenAI-compatible endpoint as response generator (the role ChatGPT has in MK-TOD).

Requests are rate-limited, and answers are stored on disk as they arrive, so that none is paid for twice.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.dialogue.generators.base import Answer, DialogueItem, Progress
from models.dialogue.generators.in_context import FittedChat, InContext, first_utterance, report_cuts
from models.errors import BackendError, BadReplyError
from models.files import write_atomic
from models.lm.chat_reply import count_problems, describe_problems, read_reply
from models.lm.http import OpenAiClient
from models.schema import Message

ANSWERS = "answers.jsonl"
_log = logging.getLogger(__name__)


def request_key(model: str, messages: Sequence[Message], options: Mapping[str, object]) -> str:
    """Return the sha256 of a request: model, messages and options; neither the address nor the API key is part of it."""
    turns = [[m.role, m.content] for m in messages]
    text = json.dumps([model, turns, dict(options)], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """An append-only file of answers by request, safe to share between threads of one process; a context manager.

    A line is on the disk (fsync) before its answer is used. Lines that are not answers (truncated or damaged) are dropped when
    the file is opened: their requests are sent again. Use a separate folder for each endpoint: the same model name may be another
    model elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        """Open `answers.jsonl` of a folder, which is made if need be, and read it."""
        self.path = folder / ANSWERS
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._answers = self._read()
        self._file = self.path.open("ab")

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def get(self, key: str) -> Answer | None:
        """Return the answer to a request, if it was answered before; its `cuts` are empty."""
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer for good."""
        row = {
            "key": key,
            "text": answer.text,
            "num_prompt_tokens": answer.num_prompt_tokens,
            "num_tokens": answer.num_tokens,
            "finish": answer.finish,
            **({"problem": answer.problem} if answer.problem else {}),
        }
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._guard:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._answers[key] = _answer(row)

    def _read(self) -> dict[str, Answer]:
        """Read all answers, and rewrite the file without what is none."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        answers: dict[str, Answer] = {}
        kept: list[bytes] = []
        for line in lines:
            try:
                row = json.loads(line if line.endswith(b"\n") else b"")
                answers[row["key"]] = _answer(row)
            except (KeyError, TypeError, ValueError):
                continue
            kept.append(line)
        if kept != lines:
            _log.warning("`%s`: %d lines are not answers; their requests are sent again.", self.path, len(lines) - len(kept))
            write_atomic(self.path, b"".join(kept))
        return answers


def _answer(row: Mapping[str, Any]) -> Answer:
    counts = int(row["num_prompt_tokens"]), int(row["num_tokens"])
    return Answer(str(row["text"]), *counts, row["finish"], problem=str(row.get("problem", "")))


class RateLimit:
    """Lets one request through every 60/n seconds; what was not used in the last second may be used at once."""

    def __init__(
        self,
        per_minute: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with a full bucket.

        Args:
            per_minute: Requests a minute; 0 = no limit.
            clock: Seconds, monotonic.
            sleep: Waits seconds.
        """
        self._rate = per_minute / 60.0
        self._most = max(self._rate, 1.0)
        self._tokens, self._at = self._most, clock()
        self._clock, self._sleep, self._guard = clock, sleep, threading.Lock()

    def acquire(self) -> None:
        """Wait until a request may be sent. Threads are served in the order in which they came."""
        if self._rate == 0:
            return
        with self._guard:
            now = self._clock()
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
            self._at = now
            self._tokens -= 1
            wait = max(0.0, -self._tokens / self._rate)
        if wait:
            self._sleep(wait)


CountText = Callable[[str], int]


def bytes_as_tokens(text: str) -> int:
    """Estimate the number of tokens of a text: one per 4 bytes, rounded up."""
    return -(-len(text.encode()) // 4)


def text_counter(model: str) -> CountText:
    """Return tiktoken's count where it is installed and knows the model, else `bytes_as_tokens`.

    tiktoken fetches the vocabulary of a model once (TIKTOKEN_CACHE_DIR keeps it); without a network the estimate serves.
    """
    try:
        import tiktoken

        encoding = tiktoken.encoding_for_model(model)
    except (ImportError, KeyError):
        return bytes_as_tokens
    except OSError as err:  # of requests: the vocabulary cannot be fetched
        _log.warning("the vocabulary of %s cannot be fetched (%s): tokens are estimated, 4 bytes each", model, type(err).__name__)
        return bytes_as_tokens
    return lambda text: len(encoding.encode_ordinary(text))


_TOKENS_PER_MESSAGE = 4  # role and marks around a message, as OpenAI counts them


class OpenAiResponder:
    """Sends each prompt once: answers are kept in a cache and found there by the next run.

    When the endpoint fails for good (after the client's retries), the answers that came are in the cache, and the next call
    sends only what is missing. The API key is known to the client alone.
    """

    def __init__(
        self,
        client: OpenAiClient,
        in_context: InContext,
        *,
        cache: AnswerCache | None = None,
        requests_per_minute: float = 0,
        count_text: CountText | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            client: The endpoint.
            in_context: How its prompts are made.
            cache: Where answers are kept; None = nowhere.
            requests_per_minute: Rate limit of first attempts; 0 = none. (Retries wait as the server requests.)
            count_text: Tokens of a text, to fit prompts; None = `text_counter` of the client's model.
        """
        self._client, self._in_context, self._cache = client, in_context, cache
        self._limit = RateLimit(requests_per_minute)
        self._count_text = count_text or text_counter(client.model)
        self._options: dict[str, object] = {"max_tokens": in_context.max_new_tokens, "temperature": 0.0}

    def respond(self, items: Sequence[DialogueItem], *, on_progress: Progress | None = None) -> list[Answer]:
        """Return one answer for each item, in order; requests run side by side.

        A request without a usable reply gets an empty answer with its `problem`.

        Raises:
            BackendError: The endpoint is away, or refuses key, model or address; the answers so far are in the cache.
        """
        fitted = self._in_context.fit(items, count=self._count)
        try:
            answers = self._client.map(self._answer, list(zip(items, fitted, strict=True)), on_progress=on_progress)
        except BackendError as error:
            if self._cache is None:
                raise
            kept = f"{error} Finished answers are kept: the same command asks for the missing ones only."
            raise BackendError(kept, transient=error.transient) from error
        report_cuts(answers, model=self._client.model)
        if problems := count_problems(a.problem for a in answers):
            _log.warning("%s: %s", self._client.model, describe_problems(problems, total=len(answers)))
        read, written = sum(a.num_prompt_tokens for a in answers), sum(a.num_tokens for a in answers)
        _log.info("%s: %d answers, %d tokens read, %d written", self._client.model, len(answers), read, written)
        return answers

    def _answer(self, pair: tuple[DialogueItem, FittedChat]) -> Answer:
        item, chat = pair
        key = request_key(self._client.model, chat.messages, self._options)
        known = self._cache.get(key) if self._cache is not None else None
        if known is None:
            self._limit.acquire()
            try:
                choice = self._client.chat(chat.messages, **self._options)
            except BadReplyError as error:  # not kept: the next run asks again
                _log.warning("`%s` has no answer: %s", item.id, error)
                return Answer("", chat.num_tokens, 0, "eos", chat.cuts, "no reply")
            known = self._read(choice, chat)
            if self._cache is not None:
                self._cache.put(key, known)
        return replace(known, text=first_utterance(known.text), cuts=chat.cuts)

    def _read(self, choice: Mapping[str, object], chat: FittedChat) -> Answer:
        reply = read_reply(choice)
        read = chat.num_tokens if reply.num_prompt_tokens is None else reply.num_prompt_tokens
        written = self._count_text(reply.text) if reply.num_tokens is None else reply.num_tokens
        return Answer(reply.text, read, written, reply.finish, problem=reply.problem)

    def _count(self, messages: Sequence[Message]) -> int:
        return sum(self._count_text(m.content) + _TOKENS_PER_MESSAGE for m in messages)
