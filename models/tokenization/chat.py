"""Chat templates: how each source model wants a prompt to be written.

A template is Jinja text with `messages`, `bos_token`, `eos_token` and `add_generation_prompt`, the Hugging Face convention, so
a tokenizer's own template works unchanged. Templates write `bos_token` themselves, because nothing else adds it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase

from models.errors import SourceError
from models.schema import Message

VICUNA = """\
{%- set intro = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
detailed, and polite answers to the user's questions." -%}
{%- if messages[0].role == 'system' %}{% set intro = messages[0].content %}{% set messages = messages[1:] %}{% endif -%}
{{- bos_token + intro -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ (' ' if loop.first else '') + 'USER: ' + m.content + ' ASSISTANT:' }}
{%- elif m.role == 'assistant' -%}{{ ' ' + m.content + eos_token }}
{%- else -%}{{ raise_exception('a system message must come first') }}
{%- endif -%}
{%- endfor -%}
"""

LLAMA2 = """\
{%- set intro = '' -%}
{%- if messages[0].role == 'system' -%}
{%- set intro = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' -%}{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ bos_token + '[INST] ' + (intro if loop.first else '') + m.content + ' [/INST]' }}
{%- elif m.role == 'assistant' -%}{{ ' ' + m.content + ' ' + eos_token }}
{%- else -%}{{ raise_exception('a system message must come first') }}
{%- endif -%}
{%- endfor -%}
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
        tokenizer: Tokenizer whose `chat_template` serves when there is no preset.
        source: Name of the source model, for messages.

    Raises:
        SourceError: The preset is unknown, or there is neither a preset nor a template.
    """
    names = ", ".join(PRESETS)
    if preset is not None:
        if preset not in PRESETS:
            raise SourceError(f"`chat_template` of source `{source}` must be one of {names}, but is `{preset}`.")
        return PRESETS[preset]
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    if not own:
        raise SourceError(
            f"The tokenizer of source `{source}` has no chat template. Set `chat_template` of this source to one of {names}."
        )
    return str(own)


def render_prompt(template: str, messages: Sequence[Message], *, bos_token: str, eos_token: str) -> str:
    """Write a prompt up to the place where the model's answer begins.

    The template runs in a sandbox and sees no clock, so that the same messages always give the same prompt.

    Raises:
        SourceError: The template is not valid Jinja, or refuses these messages (`raise_exception`).
    """
    return _render(template, messages, bos_token=bos_token, eos_token=eos_token, add_generation_prompt=True)


def render_conversation(template: str, messages: Sequence[Message], *, bos_token: str, eos_token: str) -> str:
    """Write a finished conversation, last turn by the assistant, as a reward model reads it (no prompt for a further turn).

    Raises:
        SourceError: As `render_prompt`.
    """
    return _render(template, messages, bos_token=bos_token, eos_token=eos_token, add_generation_prompt=False)


def response_lead(template: str, *, bos_token: str, eos_token: str) -> str:
    """Return what the template writes between the end of a prompt and the answer: `" "` for Vicuna and Llama-2, else mostly `""`.

    These models were trained with that space inside the first token of the answer (`▁Hello`), so pass it as `lead` to
    `TokenCodec.encode_responses`. A template that writes a finished answer differently from a prompt gives `""`.
    """
    probe, question = "Answer", Message("user", "Question")
    prompt = render_prompt(template, [question], bos_token=bos_token, eos_token=eos_token)
    turns = [question, Message("assistant", probe)]
    whole = _render(template, turns, bos_token=bos_token, eos_token=eos_token, add_generation_prompt=False)
    if not whole.startswith(prompt):
        return ""
    lead = whole[len(prompt) :].partition(probe)[0]
    return "" if lead.strip() else lead


def template_digest(template: str) -> str:
    """Return the sha256 (hex) of a template's text."""
    return hashlib.sha256(template.encode()).hexdigest()


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` of Hugging Face templates: marks the answer, changes no text."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 reads a plain class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Keep the body, drop the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, **options: Any) -> str:
    # jinja2's own filter escapes HTML, which would change what the model reads.
    return json.dumps(value, ensure_ascii=False, **options)


@lru_cache(maxsize=64)
def _compile(template: str) -> Template:
    extensions: list[type[Extension]] = [_GenerationTag, loopcontrols]
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    env.filters["tojson"] = _to_json
    refuse: Callable[[str], NoReturn] = _refuse
    env.globals["raise_exception"] = refuse
    return env.from_string(template)


def _render(template: str, messages: Sequence[Message], *, bos_token: str, eos_token: str, add_generation_prompt: bool) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return _compile(template).render(
            messages=turns, bos_token=bos_token, eos_token=eos_token, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError) as error:
        roles = ", ".join(m.role for m in messages)
        raise SourceError(
            f"The chat template cannot render messages with roles [{roles}]: {error}. Use another `chat_template` preset."
        ) from error
