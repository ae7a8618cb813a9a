"""Any OpenAI-compatible endpoint as a response generator: the role ChatGPT has in MK-TOD."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from models.errors import BackendError
from models.generation.answer_cache import AnswerCache, request_key
from models.generation.chat_prompt import FittedChat, tidy
from models.generation.dialogue_item import Answer, DialogueItem, Progress
from models.generation.http import OpenAiClient
from models.generation.in_context import InContext, report_cuts
from models.generation.rate_limit import RateLimit
from models.generation.token_estimate import CountText, text_counter
from models.schema import Message

_log = logging.getLogger(__name__)
_PATH = "/chat/completions"
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
            requests_per_minute: Rate limit of first attempts; 0 = none. (Retries wait as the server says.)
            count_text: Tokens of a text, to fit prompts; None = `text_counter` of the client's model.
        """
        self._client, self._in_context, self._cache = client, in_context, cache
        self._limit = RateLimit(requests_per_minute)
        self._count_text = count_text or text_counter(client.model)
        self._options: dict[str, object] = {"max_tokens": in_context.max_new_tokens, "temperature": 0.0}

    def respond(self, items: Sequence[DialogueItem], *, on_progress: Progress | None = None) -> list[Answer]:
        """Return one answer for each item, in order; requests run side by side.

        Raises:
            BackendError: The endpoint does not answer as its interface promises; the answers so far are in the cache.
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
        read, written = sum(a.num_prompt_tokens for a in answers), sum(a.num_tokens for a in answers)
        _log.info("%s: %d answers, %d tokens read, %d written", self._client.model, len(answers), read, written)
        return answers

    def _answer(self, pair: tuple[DialogueItem, FittedChat]) -> Answer:
        item, chat = pair
        key = request_key(self._client.model, chat.messages, self._options)
        known = self._cache.get(key) if self._cache is not None else None
        if known is None:
            self._limit.acquire()
            known = self._parse(self._client.chat(chat.messages, **self._options), item, chat)
            if self._cache is not None:
                self._cache.put(key, known)
        return Answer(tidy(known.text), known.num_prompt_tokens, known.num_tokens, known.finish, chat.cuts)

    def _parse(self, choice: dict[str, Any], item: DialogueItem, chat: FittedChat) -> Answer:
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            what = f"must answer with `message.content`, but answers {choice!r:.300} for `{item.id}`"
            raise self._client.error(_PATH, what, cure="Check that it is an OpenAI-compatible chat endpoint.")
        said = choice.get("usage")
        usage = said if isinstance(said, dict) else {}
        finish: Literal["eos", "length"] = "length" if choice.get("finish_reason") == "length" else "eos"
        return Answer(
            text,
            _counted(usage.get("prompt_tokens"), chat.num_tokens),
            _counted(usage.get("completion_tokens"), self._count_text(text)),
            finish,
        )

    def _count(self, messages: Sequence[Message]) -> int:
        return sum(self._count_text(m.content) + _TOKENS_PER_MESSAGE for m in messages)


def _counted(value: object, estimate: int) -> int:
    """Return the server's count, or the estimate where it gives none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else estimate
