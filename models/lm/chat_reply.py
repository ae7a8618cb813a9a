"""Parsing of chat completion replies: answer text, finish reason, token counts, and the reason for an empty answer."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.corpus.text import replace_lone_surrogates
from models.schema import Finish

_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_THINK = r"think(?:ing)?|thought|reasoning"
_BLOCK = re.compile(rf"<({_THINK})>.*?</\1>", re.IGNORECASE | re.DOTALL)
# Templates that open the block themselves leave only its end to the model.
_END = re.compile(rf"^.*</(?:{_THINK})>", re.IGNORECASE | re.DOTALL)
_OPEN = re.compile(rf"^\s*<(?:{_THINK})>.*", re.IGNORECASE | re.DOTALL)
# As other templates write the same.
_OTHER_MARKS = re.compile(r"\[/?THINK\]|◁/?think▷|</?seed:think>|<\|(?:begin|end)_of_thought\|>")


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer of a server.

    Attributes:
        text: The answer, without the model's reasoning.
        finish: How it ended.
        problem: Short category of why `text` is empty, for counting; "" if it is not.
        num_tokens: Completion tokens, reasoning included, as the server counts them; None if it does not.
        num_prompt_tokens: Prompt tokens, likewise.
    """

    text: str
    finish: Finish
    problem: str = ""
    num_tokens: int | None = None
    num_prompt_tokens: int | None = None


def read_reply(choice: Mapping[str, Any]) -> ChatReply:
    """Parse what `OpenAiClient.chat` or `complete` returns.

    Content may be a text, null, or a list of parts, which are joined. Reasoning is not part of the answer, whether in `<think>`
    blocks (closed or not) or in a separate field. Lone surrogates become U+FFFD.
    """
    message = choice.get("message")
    given = message if isinstance(message, dict) else {}
    content = given.get("content") if "content" in given else choice.get("text")
    raw = replace_lone_surrogates(_joined(content))
    text = without_reasoning(raw)
    usage = choice.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    finish = _finish(choice.get("finish_reason"))
    problem = "" if text.strip() else _problem(choice, given, raw=raw, finish=finish)
    return ChatReply(text, finish, problem, _count(counts.get("completion_tokens")), _count(counts.get("prompt_tokens")))


def without_reasoning(text: str) -> str:
    """Return a text without `<think>` blocks (also `<thinking>`, `<thought>`, `<reasoning>`), closed or not."""
    marked = _OTHER_MARKS.sub(lambda mark: "</think>" if "/" in mark[0] or "end" in mark[0] else "<think>", text)
    left = _BLOCK.sub("", marked)
    left = _OPEN.sub("", _END.sub("", left))
    return left.lstrip() if left != marked else text


def count_problems(problems: Iterable[str]) -> dict[str, int]:
    """Return how often each reason of an empty answer occurs, in the order of their names."""
    return dict(sorted(Counter(p for p in problems if p).items()))


def describe_problems(counts: Mapping[str, int], *, total: int) -> str:
    """Return a sentence on the empty answers among `total`."""
    parts = ", ".join(f"{count} × {problem}" for problem, count in counts.items())
    hint = " The reasoning of a model counts as tokens: allow it more." if {"length", "reasoning only"} & set(counts) else ""
    return f"{sum(counts.values())} of {total} answers are empty: {parts}.{hint}"


def _joined(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(map(_joined, content))
    if isinstance(content, Mapping) and content.get("type", "text") in ("text", "output_text"):
        return _joined(content.get("text", content.get("value")))
    return ""


def _refused(message: Mapping[str, Any]) -> bool:
    parts = message.get("content")
    listed = parts if isinstance(parts, list) else []
    return bool(message.get("refusal")) or any(isinstance(part, Mapping) and part.get("refusal") for part in listed)


def _finish(reason: object) -> Finish:
    if reason == "content_filter":
        return "content_filter"
    return "length" if isinstance(reason, str) and reason in _CUT else "eos"


def _problem(choice: Mapping[str, Any], message: Mapping[str, Any], *, raw: str, finish: Finish) -> str:
    if not message and "text" not in choice:
        return "no message"
    if _refused(message):
        return "refusal"
    if finish != "eos":
        return finish.replace("_", " ")
    if raw.strip():
        return "reasoning only"
    return "tool call" if message.get("tool_calls") or message.get("function_call") else "no text"


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12 or value != int(value):
        return None
    return int(value)
