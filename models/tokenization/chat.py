"""Chat templates: presets, rendering of prompts and conversations, and how a template begins and ends an answer.

A template is Jinja text as Hugging Face writes it, and is rendered by transformers' own environment with what
`apply_chat_template` gives it: `messages`, `tools` and `documents` (None), `add_generation_prompt`, and the tokenizer's special
tokens by name. The only difference is that there is no clock: `strftime_now` formats a date that the caller fixes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date as Date
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from jinja2 import Template
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from models.errors import SourceError
from models.params.sources import DEFAULT_DATE
from models.schema import Message

VICUNA = """\
{%- set intro = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
detailed, and polite answers to the user's questions." -%}
{%- if messages[0].role == 'system' %}{% set intro = messages[0].content %}{% set messages = messages[1:] %}{% endif -%}
{{- bos_token -}}{{- intro -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ (' ' if loop.first else '') + 'USER: ' + m.content + ' ASSISTANT:' }}
{%- elif m.role == 'assistant' -%}{{ ' ' + m.content }}{{ eos_token }}
{%- else -%}{{ raise_exception('a system message must come first') }}
{%- endif -%}
{%- endfor -%}
"""

LLAMA2 = """\
{%- set open = namespace(intro='') -%}
{%- if messages[0].role == 'system' -%}
{%- set open.intro = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' -%}{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ bos_token }}{{ '[INST] ' + open.intro + m.content + ' [/INST]' }}{%- set open.intro = '' -%}
{%- elif m.role == 'assistant' -%}{{ ' ' + m.content + ' ' }}{{ eos_token }}
{%- else -%}{{ raise_exception('a system message must come first') }}
{%- endif -%}
{%- endfor -%}
{%- if open.intro -%}{{ raise_exception('a system message must be followed by one of the user') }}{%- endif -%}
"""

CHATML = """\
{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

ALPACA = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ '### Instruction:\\n' + m.content + '\\n### Response:\\n' }}
{%- else -%}{{ m.content + '\\n' }}
{%- endif -%}
{%- endfor -%}
"""

PLAIN = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ 'Q: ' + m.content + '\\nA: ' }}
{%- else -%}{{ m.content + '\\n' }}
{%- endif -%}
{%- endfor -%}
"""

TEXT = "{{- bos_token -}}{%- for m in messages -%}{{ m.content }}{%- endfor -%}"

PRESETS: Mapping[str, str] = MappingProxyType(
    {"vicuna": VICUNA, "llama2": LLAMA2, "chatml": CHATML, "alpaca": ALPACA, "plain": PLAIN, "text": TEXT}
)
"""Preset name → template. `alpaca`, `plain` and `text` are for small models trained on bare text."""


def resolve_template(preset: str | None, tokenizer: PreTrainedTokenizerBase, *, source: str) -> str:
    """Return the template of a preset, or the tokenizer's own when `preset` is None.

    Args:
        preset: Key of `PRESETS`, or None.
        tokenizer: Tokenizer whose `chat_template` is used if `preset` is None.
        source: Name of the source model, for messages.

    Raises:
        SourceError: The preset is unknown, there is neither a preset nor a template, or the template is not valid Jinja.
    """
    names = ", ".join(PRESETS)
    if preset is not None:
        if preset not in PRESETS:
            raise SourceError(f"`chat_template` of source `{source}` must be one of {names}, but is `{preset}`.")
        return PRESETS[preset]
    own = tokenizer_template(tokenizer)
    if own is None:
        raise SourceError(
            f"The tokenizer of source `{source}` has no chat template. Set `chat_template` of this source to one of {names}."
        )
    try:
        _compiled(own)
    except Exception as error:  # Jinja may raise anything on arbitrary text
        raise SourceError(
            f"The chat template in the tokenizer of source `{source}` must be valid Jinja, but is not: {_said(error)}. "
            f"Set `chat_template` of this source to one of {names}."
        ) from error
    return own


def tokenizer_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a tokenizer's own chat template (of several, the default one), or None."""
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    return own if isinstance(own, str) and own else None


def render_prompt(
    template: str,
    messages: Sequence[Message],
    *,
    date: Date = DEFAULT_DATE,
    source: str | None = None,
    **special_tokens: str | None,
) -> str:
    """Render a prompt up to the start of the model's answer.

    The template runs in transformers' sandbox and sees no clock, so that the same messages always give the same prompt.

    Args:
        template: Jinja text.
        messages: The turns of the conversation.
        date: What `strftime_now` formats.
        source: Name of the source model, for messages.
        special_tokens: `bos_token`, `eos_token`, … (all of them: `TokenCodec.template_variables`); None if there is none.

    Raises:
        SourceError: The template is not valid Jinja, refuses these messages (`raise_exception`), or fails on them.
    """
    return _render(template, messages, date=date, source=source, special_tokens=special_tokens, add_generation_prompt=True)


def render_conversation(
    template: str,
    messages: Sequence[Message],
    *,
    date: Date = DEFAULT_DATE,
    source: str | None = None,
    **special_tokens: str | None,
) -> str:
    """Render a finished conversation, last turn by the assistant, without a generation prompt, as reward models expect it.

    Args and errors as in `render_prompt`.
    """
    return _render(template, messages, date=date, source=source, special_tokens=special_tokens, add_generation_prompt=False)


def response_lead(template: str, *, date: Date = DEFAULT_DATE, source: str | None = None, **special_tokens: str | None) -> str:
    """Return what the template writes between the end of a prompt and the answer: `" "` for Vicuna and Llama-2, else mostly `""`.

    These models were trained with that space inside the first token of the answer (`▁Hello`), so pass it as `lead` to
    `TokenCodec.encode_responses`. The lead is `""` if the template does not render a finished answer as a continuation of the
    prompt.
    """
    probe = "Answer"
    asked, prompt = _ask(template, "Question", date=date, source=source, **special_tokens)
    try:
        whole = render_conversation(template, [*asked, Message("assistant", probe)], date=date, **special_tokens)
    except SourceError:
        return ""
    if not whole.startswith(prompt):
        return ""
    lead = whole[len(prompt) :].partition(probe)[0]
    return "" if lead.strip() else lead


def template_turn_end(template: str, *, date: Date = DEFAULT_DATE, **special_tokens: str | None) -> tuple[str, ...]:
    """Return what the template may write to end an answer, likeliest first: texts that begin right after the answer.

    First what follows the answer of a finished conversation; then, as some templates end a turn only before another one, what
    comes between an answer and the next question, minus what also precedes the first question. A template that does not render
    finished answers gives nothing.
    """
    question, answer, further = "Example question", "Example answer", "Another question"
    found: list[str] = []
    try:
        asked, _ = _ask(template, question, date=date, **special_tokens)
        turns = [*asked, Message("assistant", answer)]
        whole = render_conversation(template, turns, date=date, **special_tokens)
        if answer in whole:
            found.append(whole.rpartition(answer)[2])
        whole = render_conversation(template, [*turns, Message("user", further)], date=date, **special_tokens)
    except SourceError:
        return tuple(found)
    head, _, rest = whole.partition(question)
    between = rest.partition(answer)[2].partition(further)
    if between[1]:
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(head), reversed(between[0]), strict=False))
        found.append(between[0][: len(between[0]) - sum(1 for _ in shared)])
    return tuple(found)


def reads_date(template: str) -> bool:
    """Whether a template may ask for today's date."""
    return "strftime_now" in template


def template_digest(template: str) -> str:
    """Return the sha256 (hex) of a template's text."""
    return hashlib.sha256(template.encode()).hexdigest()


def _ask(
    template: str, question: str, *, date: Date, source: str | None = None, **special_tokens: str | None
) -> tuple[list[Message], str]:
    """Return turns with a question and their rendered prompt, with a system message first if the template demands one.

    Raises:
        SourceError: The template renders it neither with nor without a system message.
    """
    asked = [Message("user", question)]
    try:
        return asked, render_prompt(template, asked, date=date, source=source, **special_tokens)
    except SourceError:
        introduced = [Message("system", "Introduction"), *asked]
        try:
            return introduced, render_prompt(template, introduced, date=date, source=source, **special_tokens)
        except SourceError:
            pass
        raise


def _compiled(template: str) -> Template:
    compiled: Callable[[str], Template] = chat_template_utils._compile_jinja_template  # cached there
    return compiled(template)


def _said(error: Exception) -> str:
    return f"{' '.join(str(error).split()).rstrip('.') or 'no reason given'} ({type(error).__name__})"


def _render(
    template: str,
    messages: Sequence[Message],
    *,
    date: Date,
    source: str | None,
    special_tokens: Mapping[str, str | None],
    add_generation_prompt: bool,
) -> str:
    given: dict[str, Any] = {name: token for name, token in special_tokens.items() if token is not None}
    try:
        text = _compiled(template).render(
            **given,
            messages=[{"role": m.role, "content": m.content} for m in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            strftime_now=date.strftime,
        )
        text.encode("utf-8")  # raises on lone surrogates
    except Exception as error:  # templates are programs and may raise anything
        roles = ", ".join(m.role for m in messages)
        raise SourceError(
            f"The chat template{f' of source `{source}`' if source else ''} cannot render messages with roles [{roles}]: "
            f"{_said(error)}. Use another `chat_template` preset."
        ) from error
    return text
