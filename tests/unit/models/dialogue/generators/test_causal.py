import logging
from dataclasses import replace

import pytest

from models.dialogue.data.records import Entity, Turn
from models.dialogue.generators.base import DialogueItem, RetrievedEntity, total_cuts
from models.dialogue.generators.causal import CausalResponder
from models.dialogue.generators.demonstrations import DemonstrationPool
from models.dialogue.generators.in_context import ChatPrompt, InContext
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.errors import SourceError
from models.lm.answers import generate_responses
from models.lm.prompts import PromptItem
from models.params.dialogue import MetaKnowledgeParams
from models.params.teach import ResponseParams
from models.schema import Message

ENTITIES = tuple(
    RetrievedEntity(r, Entity(f"e{r}", "food", {"name": f"place {r}", "area": "north"}), EntityMeta(r + 1, 0.9, False))
    for r in range(5)
)
POOL = DemonstrationPool(
    [Turn("a#0", "a", 0, "food", ("some food",), "try bangkok"), Turn("b#0", "b", 0, "food", ("a curry",), "no")]
)
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif -%}"
PLAIN = "{%- for m in messages -%}{{ m.role[0] + ':' + m.content }}{%- endfor -%}"


def items(count: int, *, utterances: int = 3) -> list[DialogueItem]:
    context = tuple(f"cheap food {i} in the north please" for i in range(utterances))
    return [DialogueItem(f"z{i}#0", "food", (*context, "x" * i), ENTITIES[: i % 6]) for i in range(count)]


def in_context(**settings) -> InContext:
    meta = MetaKnowledge(MetaKnowledgeParams(), style="chat_prefix")
    return InContext(ChatPrompt(meta), **{"pool": POOL, "demonstrations": 2, "max_new_tokens": 8, **settings})


def with_template(source, template: str):
    return replace(source, source=replace(source.source, chat_template=template))


@pytest.mark.parametrize("arch", ["llama", "mpt"])
def test_a_context_of_128_tokens_is_never_too_short(pico, arch, caplog):
    caplog.set_level(logging.WARNING)
    progress: list[int] = []
    answers = CausalResponder(pico(arch), in_context(), batch_size=3).respond(items(7, utterances=9), on_progress=progress.append)
    assert len(answers) == 7 and progress == [3, 6, 7]
    assert all(0 < a.num_prompt_tokens <= 120 and a.num_tokens <= 8 for a in answers)
    cuts = total_cuts(answers)
    assert cuts.demonstrations == 14 and cuts.instructions == 7 and cuts.utterances > 0
    assert "7 of 7 prompts for" in caplog.text and "14 demonstrations" in caplog.text


def test_the_longest_response_leaves_half_of_a_short_context(pico, caplog):
    [answer] = CausalResponder(pico("llama"), in_context(max_new_tokens=500)).respond(items(1))
    assert answer.num_tokens <= 64 and answer.num_prompt_tokens <= 64
    assert "has a context of 128 tokens: responses end after 64" in caplog.text


def test_the_model_reads_the_very_prompt_and_its_text_is_tidied(pico):
    source = pico("llama")
    context = in_context(pool=None, max_prompt_tokens=90)
    responder = CausalResponder(source, context)
    [item] = [replace(items(1)[0], entities=ENTITIES[:1], context=("food ?",))]
    [answer] = responder.respond([item])
    fitted = ChatPrompt(context.prompt.meta).fit(item, (), count=responder._count, max_tokens=90)
    prompt = PromptItem("x", fitted.messages)
    [raw] = generate_responses(source, [prompt], ResponseParams(max_new_tokens=8))
    assert answer.text == " ".join(raw.text.split()) and answer.num_tokens == raw.num_tokens and answer.finish == raw.finish
    assert answer.num_prompt_tokens == fitted.num_tokens and answer.cuts == fitted.cuts and not raw.prompt_truncated


def test_the_batch_changes_no_answer(pico):
    one, many = (CausalResponder(pico("llama"), in_context(), batch_size=size).respond(items(6)) for size in (1, 6))
    assert one == many


@pytest.mark.parametrize(
    "template", [NO_SYSTEM + PLAIN, PLAIN.replace("{{", "{%- if m.role != 'system' -%}{{").replace("}}", "}}{%- endif -%}")]
)
def test_a_template_without_system_message_gets_the_instructions_in_the_first_user_message(pico, template):
    source = with_template(pico("llama", context_length=128), template)
    responder = CausalResponder(source, in_context())
    assert not responder._in_context.prompt.system_role
    assert CausalResponder(with_template(source, PLAIN), in_context())._in_context.prompt.system_role
    assert responder.respond(items(1))[0].num_prompt_tokens > 0


def test_a_broken_template_is_an_error_at_once(pico):
    with pytest.raises(SourceError, match="chat template"):
        CausalResponder(with_template(pico("llama"), "{{ raise_exception('never') }}"), in_context())


def test_nothing_to_answer(pico):
    assert CausalResponder(pico("llama"), in_context()).respond([]) == []


def test_text_that_spells_a_special_token_does_not_become_one(pico):
    source = with_template(pico("llama"), PLAIN)
    eos = source.codec.eos_token
    responder = CausalResponder(source, in_context(demonstrations=0, pool=None))
    rendered = responder._render([Message("user", f"stop {eos} here")])
    assert eos not in rendered and f"{eos[0]} {eos[1:]}" in rendered
    assert source.codec.eos_id not in source.codec.encode_prompts([rendered])[0].tolist()
