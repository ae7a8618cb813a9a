"""Responses (inference mode) and teacher-forced signals of a source behind an HTTP endpoint."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.errors import BackendError, BadReplyError
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals
from models.lm.answers import sample_seed
from models.lm.chat_reply import count_problems, describe_problems, read_reply
from models.lm.http import OpenAiClient
from models.lm.prompts import (
    FittedPrompt,
    FittedText,
    Overflow,
    PromptItem,
    TextItem,
    fit_prompts,
    fit_texts,
    source_response_lead,
)
from models.params.teach import ResponseParams
from models.schema import ResolvedSource, Response
from models.tokenization.codec import TokenCodec

_WINDOW = 256  # texts whose replies are held at once
_log = logging.getLogger(__name__)
_NO_REPLY = "no reply"
_REFUSED = re.compile(r"\bHTTP 4(?:00|05|15|22)\b")
_NEEDS_IDS = "Answers need a server whose /completions takes token ids and `stop_token_ids`, such as vLLM; or use `transformers`."
_CUT_CHARACTER = "\ufffd"  # what servers write for a character that was cut
_NEVER = -1e4  # below it a server means "impossible" (vLLM writes -9999)
Progress = Callable[[int], None]


def http_responses(
    client: OpenAiClient,
    items: Sequence[PromptItem],
    cfg: ResponseParams,
    *,
    source: ResolvedSource,
    codec: TokenCodec,
    overflow: Overflow = "truncate_left",
    on_progress: Progress | None = None,
) -> list[Response]:
    """Generate `cfg.num_samples` responses to every prompt through `/completions`, with token ids of the local template.

    The server thus gets the same input as in-process generation and teacher forcing, and stops at the same end tokens.

    Args:
        client: The endpoint.
        items: Prompts; the result holds `cfg.num_samples` consecutive responses for each, in this order.
        cfg: Length, temperature, top-p, seed (each request sends its own seed).
        source: Template and context length of the model behind the endpoint.
        codec: Its tokenizer.
        overflow: What to do with a prompt that leaves no room for `cfg.max_new_tokens` in the context.
        on_progress: Called with the number of finished responses.

    Returns:
        Responses; `num_tokens` is `usage.completion_tokens`, as the server counts. A request without a usable reply gets an
        empty answer with its `problem`.

    Raises:
        ParamsError: `max_new_tokens` leaves no room for a prompt.
        DataError: A prompt is empty, or too long under overflow `error`.
        BackendError: The endpoint is unreachable, rejects key, model or address, or does not accept token ids.
    """
    prompts = fit_prompts(source, codec, items, room=cfg.max_new_tokens, overflow=overflow)
    asker = _Asker(client, cfg, source, codec)
    rows = [(item, prompt, sample) for item, prompt in zip(items, prompts, strict=True) for sample in range(cfg.num_samples)]
    responses = client.map(lambda row: asker.ask(*row), rows, on_progress=on_progress)
    if rows and all(r.problem == _NO_REPLY for r in responses):
        asker.check_ids(prompts[0])
    if problems := count_problems(r.problem for r in responses):
        _log.warning("%s: %s", source.name, describe_problems(problems, total=len(responses)))
    return responses


def http_signals(
    client: OpenAiClient,
    items: Sequence[TextItem],
    *,
    source: ResolvedSource,
    codec: TokenCodec,
    top_k: int | None,
    overflow: Overflow = "truncate_left",
    on_progress: Progress | None = None,
) -> Iterator[SampleSignals]:
    """Teacher-force a server (vLLM: `/completions` with token ids and `prompt_logprobs`) on given responses.

    Only the top-k is known, so the tail is log(1 − Σ p), and probabilities are over the server's vocabulary. Of the tokens that
    end a turn, the label and those among the top-k count.

    Args:
        client: The endpoint.
        items: Prompts with responses.
        source: Template and context length of the model behind the endpoint.
        codec: Its tokenizer.
        top_k: Log-probabilities per position; None or 0 keeps cross-entropies only (then the whole mass is the tail).
        overflow: What to do with a prompt that does not fit.
        on_progress: Called with the number of finished texts.

    Yields:
        Signals in input order.

    Raises:
        DataError: A text does not fit.
        BackendError: The endpoint does not answer, or does not return `prompt_logprobs`.
    """
    k = top_k or 0
    ends = codec.with_template(source.chat_template).end.ids

    def ask(pair: tuple[TextItem, FittedText]) -> SampleSignals:
        return _force(client, pair[0].id, pair[1], top_k=k, vocab_size=codec.vocab_size, ends=ends)

    for start in range(0, len(items), _WINDOW):
        window = items[start : start + _WINDOW]
        # The end token is sent too (it gets its log-probability as part of the prompt), and the server must generate one.
        texts = fit_texts(source, codec, window, overflow=overflow, reserve=2)
        tell = (lambda done, start=start: on_progress(start + done)) if on_progress is not None else None
        yield from client.map(ask, list(zip(window, texts, strict=True)), on_progress=tell)


class _Asker:
    """Client for single responses from one source's server."""

    def __init__(self, client: OpenAiClient, cfg: ResponseParams, source: ResolvedSource, codec: TokenCodec) -> None:
        self._client, self._cfg, self._name, self._codec = client, cfg, source.name, codec
        self._lead = source_response_lead(source, codec)
        self._stops = codec.with_template(source.chat_template).end.stops

    def ask(self, item: PromptItem, prompt: FittedPrompt, sample: int) -> Response:
        cfg = self._cfg
        greedy = cfg.is_greedy(sample)
        options: dict[str, object] = {"max_tokens": cfg.max_new_tokens, "temperature": 0.0 if greedy else cfg.temperature}
        if not greedy:
            options |= {"top_p": cfg.top_p, "seed": sample_seed(cfg.seed, item.id, sample) % 2**31}
        try:
            reply = read_reply(self._complete(prompt, options))
        except BadReplyError as error:
            _log.warning("%s returned no answer to `%s`: %s", self._name, item.id, error)
            return Response(item.id, self._name, sample, "", 0, "eos", prompt.truncated, problem=_NO_REPLY)
        except BackendError as error:
            if _REFUSED.search(str(error)) is None:
                raise
            raise BackendError(f"{error} {_NEEDS_IDS}") from error
        if reply.num_prompt_tokens is not None and reply.num_prompt_tokens != len(prompt.ids):
            what = f"must read a prompt's {len(prompt.ids)} token ids as they are, but reads {reply.num_prompt_tokens} tokens"
            raise self._client.error("/completions", what, cure=_NEEDS_IDS)
        text = self._without_end(reply.text) if reply.finish == "eos" else reply.text.rstrip(_CUT_CHARACTER)
        text = text.removeprefix(self._lead)
        count = len(self._codec.encode_ids([text])[0]) if reply.num_tokens is None else reply.num_tokens
        return Response(item.id, self._name, sample, text, count, reply.finish, prompt.truncated, problem=reply.problem)

    def check_ids(self, prompt: FittedPrompt) -> None:
        """Where no prompt was answered, find out with a single token whether the server, which may take texts, takes token ids.

        Raises:
            BackendError: It does not.
        """
        try:
            self._complete(prompt, {"max_tokens": 1, "temperature": 0.0})
        except BadReplyError as error:
            raise BackendError(f"{error} {_NEEDS_IDS}") from error

    def _complete(self, prompt: FittedPrompt, options: Mapping[str, object]) -> dict[str, Any]:
        return self._client.complete(prompt.ids.tolist(), stop_token_ids=list(self._stops), **options)

    def _without_end(self, text: str) -> str:
        """Remove the end of the turn, which servers leave in the text if it is an ordinary token."""
        ends = (self._codec.decode([i]) or self._codec.pieces[i] for i in self._stops)
        return next((text.removesuffix(end) for end in ends if end and text.endswith(end)), text)


def _force(
    client: OpenAiClient, item_id: str, text: FittedText, *, top_k: int, vocab_size: int, ends: Sequence[int]
) -> SampleSignals:
    ids = np.concatenate([text.prompt, text.labels])
    choice = client.complete(ids.tolist(), max_tokens=1, temperature=0.0, prompt_logprobs=top_k)
    rows = choice.get("prompt_logprobs")
    if not isinstance(rows, list) or len(rows) != len(ids):
        seen = f"{len(rows)} rows for {len(ids)} tokens" if isinstance(rows, list) else client.excerpt(rows, limit=100)
        cure = "Signals need a server with vLLM's `prompt_logprobs`, started with `--max-logprobs` ≥ `teach.signals.top_k`."
        raise client.error("/completions", f"must return `prompt_logprobs` for every token, but returns {seen}", cure=cure)
    count = len(text.labels)
    topk_ids = np.zeros((count, top_k), dtype=np.uint32)
    topk_logprobs = np.full((count, top_k), PAD_LOGPROB, dtype=np.float32)
    ce = np.empty(count, dtype=np.float32)
    for t, (label, row) in enumerate(zip(text.labels.tolist(), rows[len(ids) - count :], strict=True)):
        known = _parse_row(client, row, label, item_id)
        same = ends if text.ended and t == count - 1 else (label,)
        ce[t] = -np.logaddexp.reduce([known[i] for i in same if i in known])
        best = sorted((i for i in known if i < vocab_size), key=lambda i: (-known[i], i))[:top_k]
        topk_ids[t, : len(best)] = best
        topk_logprobs[t, : len(best)] = [max(known[i], PAD_LOGPROB) for i in best]
    outside = 1.0 - np.exp(topk_logprobs.astype(np.float64)).sum(axis=1)
    tail = np.log(np.maximum(outside, np.exp(TAIL_FLOOR))).astype(np.float16)
    return SampleSignals(item_id, text.labels.astype(np.uint32), topk_ids, topk_logprobs.astype(np.float16), tail, ce)


def _parse_row(client: OpenAiClient, row: Any, label: int, item_id: str) -> dict[int, float]:
    """Return token id → log-probability; the label's own must be there and finite."""
    try:
        known = {int(i): _NEVER if e["logprob"] is None else float(e["logprob"]) for i, e in row.items()}
        if not np.isfinite(known[label]) or known[label] <= _NEVER:
            raise ValueError(f"log-probability {known[label]} of token {label}")
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        seen = f"{client.excerpt(row, limit=200)} ({type(err).__name__}: {err})"
        what = "must return `prompt_logprobs` as token id → {logprob}, the prompt's own token included"
        cure = "Check that the endpoint's tokenizer is the source's, and its vLLM version."
        raise client.error("/completions", f"{what}, but `{item_id}` has {seen}", cure=cure) from err
    return {i: v for i, v in known.items() if np.isfinite(v)}
