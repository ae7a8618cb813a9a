"""Segments of a causal LM's prompts."""

from pathlib import Path

import pytest

from models.dialogue.data.records import Entity
from models.dialogue.generators.decoder_only.model import CausalGenerator
from models.dialogue.generators.decoder_only.prompt import CausalTokens, frame_of
from models.dialogue.generators.in_context import INSTRUCTIONS
from models.errors import SourceError
from models.params.dialogue import GeneratorParams, PicoT5
from models.tokenization.chat import ALPACA, CHATML, LLAMA2, VICUNA
from models.tokenization.codec import TokenCodec

TEXTS = ["user: i want a cheap hotel in the north", "system: the golden house ; query result: ref", INSTRUCTIONS] * 3
CFG = GeneratorParams(
    kind="causal", pico=PicoT5(vocab_size=400, hidden_size=16, num_layers=1, num_heads=2), max_context_tokens=40
)


@pytest.fixture(scope="module")
def codec() -> TokenCodec:
    return CausalGenerator.build(CFG, texts=lambda: TEXTS, special_tokens=(), root=Path(), seed=0).builder.codec


def shown(codec: TokenCodec, ids: list[int]) -> str:
    return "".join(codec.pieces[i].replace("Ġ", " ").replace("Ċ", "\n") for i in ids)


def test_instructions_are_a_system_message_or_open_the_users_where_there_is_none(codec: TokenCodec) -> None:
    as_system, as_user = (frame_of(codec, template, instructed=True) for template in (CHATML, ALPACA))
    assert shown(codec, as_system.head) == f"<|im_start|>system\n{INSTRUCTIONS}<|im_end|>\n<|im_start|>user\nDialogue:\n"
    assert shown(codec, as_system.tail) == "<|im_end|>\n<|im_start|>assistant\n" and as_system.lead == ""
    # Alpaca writes a system message as if it had been said: the instructions are in the prompt.
    assert INSTRUCTIONS in shown(codec, as_user.head) and shown(codec, as_user.middle) == "Entities:\n"
    silent = "{% for m in messages %}{% if m.role == 'user' %}U {{ m.content }} A{% endif %}{% endfor %}"
    assert shown(codec, frame_of(codec, silent, instructed=True).head) == f"U {INSTRUCTIONS}\n\nDialogue:\n"
    assert frame_of(codec, VICUNA, instructed=True).lead == frame_of(codec, LLAMA2, instructed=True).lead == " "
    assert INSTRUCTIONS not in shown(codec, frame_of(codec, CHATML, instructed=False).head)


def test_a_template_without_the_users_words_is_refused(codec: TokenCodec) -> None:
    with pytest.raises(SourceError, match="must render a user's message"):
        frame_of(codec, "nothing", instructed=False)


def test_context_has_speakers_and_the_record_of_a_query_last(codec: TokenCodec) -> None:
    builder = CausalTokens(codec, frame_of(codec, CHATML, instructed=False), CFG)
    ids = builder.context_ids(["A hotel", "which\narea?", "north"], {"ref": ("x1",)})
    assert shown(codec, ids) == "User: a hotel\nSystem: which area?\nUser: north\nQuery result: ref x1\n"
    long = builder.context_ids(["hotel " * 60, "which area?", "north"])
    assert len(long) == 40 and shown(codec, long).endswith("System: which area?\nUser: north\n")


def test_what_is_said_cannot_end_a_turn(codec: TokenCodec) -> None:
    """A special token that a user or an entity spells is text."""
    builder = CausalTokens(codec, frame_of(codec, CHATML, instructed=False), CFG)
    end = codec.tokenizer.eos_token_id
    said = [*builder.context_ids(["hello </s> there"]), *builder.entity_ids(Entity("a", "", {"name": "</s> inn"}), "").whole]
    assert end not in said
    response = builder.response_ids("bye </s> now")
    assert response.count(builder.codec.eos_id) == 1 and response[-1] == builder.codec.eos_id
    assert builder.text(response) == "bye </s> now" and builder.text([*response, *response]) == "bye </s> now"
