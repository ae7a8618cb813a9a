"""Chat templates: the formats the models were trained on, character for character, and errors that name what to do."""

import copy
import json
from datetime import date
from pathlib import Path

import pytest

from models.errors import SourceError
from models.schema import Message
from models.tokenization.chat import (
    PRESETS,
    render_conversation,
    render_prompt,
    resolve_template,
    response_lead,
    template_digest,
    tokenizer_template,
)
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer

SYSTEM, USER, ANSWER = Message("system", "Be kind."), Message("user", "Hi\nthere"), Message("assistant", "Yo.")
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def render(preset: str, *messages: Message) -> str:
    return render_prompt(PRESETS[preset], messages, bos_token="<s>", eos_token="</s>")


def test_presets_of_one_turn() -> None:
    assert render("vicuna", USER) == f"<s>{VICUNA_SYSTEM} USER: Hi\nthere ASSISTANT:"
    assert render("llama2", USER) == "<s>[INST] Hi\nthere [/INST]"
    assert render("chatml", USER) == "<|im_start|>user\nHi\nthere<|im_end|>\n<|im_start|>assistant\n"
    assert render("alpaca", USER) == "<s>### Instruction:\nHi\nthere\n### Response:\n"
    assert render("plain", USER) == "<s>Q: Hi\nthere\nA: "
    assert render("text", USER) == "<s>Hi\nthere"


def test_presets_of_several_turns_with_a_system_message() -> None:
    turns = (SYSTEM, USER, ANSWER, Message("user", "Bye"))
    assert render("vicuna", *turns) == "<s>Be kind. USER: Hi\nthere ASSISTANT: Yo.</s>USER: Bye ASSISTANT:"
    assert render("llama2", *turns) == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi\nthere [/INST] Yo. </s><s>[INST] Bye [/INST]"
    )
    assert render("chatml", *turns) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi\nthere<|im_end|>\n"
        "<|im_start|>assistant\nYo.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render("plain", *turns) == "<s>Be kind.\nQ: Hi\nthere\nA: Yo.\nQ: Bye\nA: "


def test_a_finished_conversation_opens_no_further_turn() -> None:
    text = render_conversation(PRESETS["chatml"], [USER, ANSWER], bos_token="", eos_token="</s>")
    assert text == "<|im_start|>user\nHi\nthere<|im_end|>\n<|im_start|>assistant\nYo.<|im_end|>\n"


def test_lead_between_prompt_and_answer() -> None:
    leads = {name: response_lead(template, bos_token="<s>", eos_token="</s>") for name, template in PRESETS.items()}
    assert leads == {"vicuna": " ", "llama2": " ", "chatml": "", "alpaca": "", "plain": "", "text": ""}
    thinking = "{% for m in messages %}{{ m.role }}:{{ '<think></think>' if m.role == 'assistant' }}{{ m.content }}{% endfor %}"
    assert response_lead(thinking, bos_token="", eos_token="") == ""


@pytest.mark.parametrize("preset", ["vicuna", "llama2"])
def test_a_late_system_message_is_refused_with_the_roles(preset: str) -> None:
    with pytest.raises(SourceError, match=r"roles \[user, system\]: a system message must come first"):
        render(preset, USER, SYSTEM)


def test_features_of_published_templates() -> None:
    template = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content | tojson }}{% endgeneration %}{% endfor %}"
        "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}"
    )
    turns = [Message("user", "<é>"), ANSWER]
    assert render_prompt(template, turns, bos_token="", eos_token="") == '"<é>"2024', "a fixed date, not the clock's"
    assert render_prompt(template, turns, date=date(2031, 1, 2), eos_token="") == '"<é>"2031'


BROKEN = {
    "sandbox": "{{ messages.__class__.__mro__ }}",
    "syntax": "{% if %}",
    "type": "{{ messages[0].content + 1 }}",
    "undefined": "{{ messages[7].content }}",
    "value": "{{ messages[0].content.index('</think>') }}",
    "empty separator": "{{ messages[0].content.split('') }}",
    "zero": "{{ 1 // (messages | length - 1) }}",
    "recursion": "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    "range": "{% for i in range(1000000000) %}{% endfor %}",
    "lookup": "{{ {}.fromkeys }}{{ messages[0].content.encode('ascii', 'strict') }}",
    "refusal": "{{ raise_exception('only tools') }}",
    "half a character": r'{{ "\ud800" }}',
}


@pytest.mark.parametrize("template", BROKEN.values(), ids=list(BROKEN))
def test_a_template_that_fails_in_any_way_is_one_error(template: str) -> None:
    with pytest.raises(SourceError, match=r"source `x` cannot render .* Use another `chat_template` preset") as caught:
        render_prompt(template, [Message("user", "Hé")], source="x", bos_token="", eos_token="")
    assert "\n" not in str(caught.value)


LOOP = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
PUBLISHED = {
    "no tools": "{{ bos_token }}{% if tools is not none %}TOOLS {{ tools | tojson }}{% endif %}" + LOOP,
    "tools undefined": "{% if tools is defined %}seen{% endif %}{% if tools == none %}none{% endif %}" + LOOP,
    "documents": "{% if documents is not none %}DOCS{% endif %}{{ documents | length if documents else 0 }}" + LOOP,
    "special tokens": "{{ unk_token }}{{ pad_token }}{{ sep_token }}{{ mask_token }}" + LOOP,
    "undefined variables": "{% if enable_thinking is defined and enable_thinking %}THINK{% endif %}{{ nothing }}" + LOOP,
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "tojson": "{{ messages | tojson(indent=2) }}{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true) }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}\n{% endgeneration %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}" + LOOP,
    "dict": "{% set d = dict(a=1) %}{{ d.a }}{{ d | tojson }}" + LOOP,
    "trim and split": "{% for m in messages %}{{ m['content'].split('t')[-1] | trim }}|{{ m.get('name', '-') }}{% endfor %}",
    "absent fields": "{% for m in messages %}{% if m.tool_calls is defined %}CALL{% endif %}{{ m['x'] is none }}{% endfor %}",
    "string test": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}parts{% endif %}{% endfor %}",
    "blocks": "  {%- if true %}\n    {{ messages[0].content }}\n  {% endif %}\n" + LOOP,
}


@pytest.mark.parametrize("template", [*PUBLISHED.values(), *PRESETS.values()], ids=[*PUBLISHED, *PRESETS])
@pytest.mark.parametrize("turns", [(USER,), (SYSTEM, USER), (USER, ANSWER, USER)])
def test_prompts_are_those_of_transformers(template: str, turns: tuple[Message, ...], pico_tokenizer) -> None:
    """Byte for byte what `apply_chat_template` writes, with and without special tokens of every name."""
    full = copy.deepcopy(pico_tokenizer)
    full.add_special_tokens({"unk_token": "<unk>", "sep_token": "<sep>", "mask_token": "<mask>"})
    bare = copy.deepcopy(pico_tokenizer)
    bare.bos_token = None
    for tokenizer in (full, bare):
        variables = TokenCodec(tokenizer, source="x").template_variables
        chat = [{"role": m.role, "content": m.content} for m in turns]
        theirs = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True)
        assert render_prompt(template, turns, **variables) == theirs
        theirs = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=False)
        assert render_conversation(template, turns, **variables) == theirs


def test_the_templates_of_real_tokenizers() -> None:
    folders = [f for f in Path("data/external").glob("*/**/tokenizer_config.json") if load_chat_template(f.parent)]
    if not folders:
        pytest.skip("no tokenizer in data/external brings a chat template: see data/external/README.md")
    for config in folders:
        tokenizer = load_tokenizer(str(config.parent), source="x")
        chat = [{"role": m.role, "content": m.content} for m in (USER, ANSWER, USER)]
        theirs = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        codec = TokenCodec(tokenizer, source="x")
        assert render_prompt(tokenizer_template(tokenizer), (USER, ANSWER, USER), **codec.template_variables) == theirs


def load_chat_template(folder: Path) -> bool:
    beside = (folder / "chat_template.jinja").is_file() and (folder / "tokenizer.json").is_file()
    return beside or "chat_template" in json.loads((folder / "tokenizer_config.json").read_text())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "turns", [(SYSTEM,), (SYSTEM, ANSWER), (SYSTEM, ANSWER, USER), (SYSTEM, USER), (SYSTEM, USER, ANSWER, USER)]
)
def test_presets_write_a_system_message_or_refuse_it(preset: str, turns: tuple[Message, ...]) -> None:
    try:
        assert SYSTEM.content in render(preset, *turns)
    except SourceError as error:
        assert "a system message must" in str(error)


def test_resolve_template(pico_tokenizer) -> None:
    tokenizer = copy.deepcopy(pico_tokenizer)
    tokenizer.chat_template = None
    assert resolve_template("chatml", tokenizer, source="warden") == PRESETS["chatml"]
    with pytest.raises(SourceError, match=r"source `warden` has no chat template.*vicuna, llama2, chatml, alpaca, plain, text"):
        resolve_template(None, tokenizer, source="warden")
    with pytest.raises(SourceError, match=r"`chat_template` of source `warden` must be one of vicuna, .*, but is `mpt`"):
        resolve_template("mpt", tokenizer, source="warden")
    tokenizer.chat_template = "{{ bos_token }}own"
    assert resolve_template(None, tokenizer, source="warden") == "{{ bos_token }}own"
    tokenizer.chat_template = "{{ bos_token"
    with pytest.raises(SourceError, match=r"of source `warden` must be valid Jinja, but is not: .* Set `chat_template`"):
        resolve_template(None, tokenizer, source="warden")
    tokenizer.chat_template = 5
    with pytest.raises(SourceError, match=r"source `warden` has no chat template"):
        resolve_template(None, tokenizer, source="warden")


def test_digest_is_of_the_text() -> None:
    assert template_digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert len({template_digest(t) for t in PRESETS.values()}) == len(PRESETS)
