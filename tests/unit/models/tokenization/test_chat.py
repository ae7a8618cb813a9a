"""Chat templates: the formats the models were trained on, character for character, and errors that name what to do."""

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
)

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
    assert render_prompt(template, [Message("user", "<é>"), ANSWER], bos_token="", eos_token="") == '"<é>"'


def test_the_sandbox_and_broken_templates() -> None:
    for template in ("{{ messages.__class__.__mro__ }}", "{% if %}", "{{ messages[0].content + 1 }}"):
        with pytest.raises(SourceError, match="Use another `chat_template` preset"):
            render_prompt(template, [USER], bos_token="", eos_token="")


def test_resolve_template(pico_tokenizer) -> None:
    import copy

    tokenizer = copy.deepcopy(pico_tokenizer)
    tokenizer.chat_template = None
    assert resolve_template("chatml", tokenizer, source="warden") == PRESETS["chatml"]
    with pytest.raises(SourceError, match=r"source `warden` has no chat template.*vicuna, llama2, chatml, alpaca, plain, text"):
        resolve_template(None, tokenizer, source="warden")
    with pytest.raises(SourceError, match=r"`chat_template` of source `warden` must be one of vicuna, .*, but is `mpt`"):
        resolve_template("mpt", tokenizer, source="warden")
    tokenizer.chat_template = "{{ bos_token }}own"
    assert resolve_template(None, tokenizer, source="warden") == "{{ bos_token }}own"


def test_digest_is_of_the_text() -> None:
    assert template_digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert len({template_digest(t) for t in PRESETS.values()}) == len(PRESETS)
