"""Any OpenAI-compatible endpoint as a response generator: the role ChatGPT has in MK-TOD."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.errors import BackendError, BadReplyError
from models.generation.answer_cache import AnswerCache, request_key
from models.generation.chat_prompt import FittedChat, tidy
from models.generation.chat_reply import count_problems, describe_problems, read_reply
from models.generation.dialogue_item import Answer, DialogueItem, Progress
from models.generation.http import OpenAiClient
from models.generation.in_context import InContext, report_cuts
from models.generation.rate_limit import RateLimit
from models.generation.token_estimate import CountText, text_counter
from models.schema import Message

_log = logging.getLogger(__name__)
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
        return replace(known, text=tidy(known.text), cuts=chat.cuts)

    def _read(self, choice: Mapping[str, object], chat: FittedChat) -> Answer:
        reply = read_reply(choice)
        read = chat.num_tokens if reply.num_prompt_tokens is None else reply.num_prompt_tokens
        written = self._count_text(reply.text) if reply.num_tokens is None else reply.num_tokens
        return Answer(reply.text, read, written, reply.finish, problem=reply.problem)

    def _count(self, messages: Sequence[Message]) -> int:
        return sum(self._count_text(m.content) + _TOKENS_PER_MESSAGE for m in messages)
