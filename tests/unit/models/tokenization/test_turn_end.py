"""How a turn ends: from what templates write behind a finished answer, over templates of every habit."""

import copy

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from models.tokenization.chat import PRESETS, response_lead
from models.tokenization.codec import TokenCodec
from models.tokenization.vocab_map import byte_vocab_map, map_ends, min_edit_distance_map

USER = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}\n{% else %}"
LAST = "{% endif %}{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"


@pytest.fixture(scope="module")
def chatty(pico_tokenizer) -> PreTrainedTokenizerFast:
    """The pico tokenizer with control tokens of chat models; `<|soft|>` is added, but not special."""
    tokenizer = copy.deepcopy(pico_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|user|>", "<|bot|>", "<|eot|>"]})
    tokenizer.add_tokens(["<|soft|>", "    "])
    return tokenizer


def codec_of(tokenizer: PreTrainedTokenizerFast, template: str, stop_ids: tuple[int, ...] = ()) -> TokenCodec:
    return TokenCodec(tokenizer, source="chatty", chat_template=template, stop_ids=stop_ids)


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("<|bot|>{{ m.content }}<|im_end|>\n", "<|im_end|>"),
        ("<|bot|>{{ m.content }}<|im_end|>\n{{ eos_token }}", "<|im_end|>"),
        ("<|bot|>{{ m.content | trim }} <|eot|>", "<|eot|>"),
        ("<|bot|>{{ m.content }}{{ eos_token }}\n<|im_end|>", "</s>"),
        ("<|bot|>{{ m.content }}<|soft|>\n", "<|soft|>"),
        ("<|bot|>{{ m.content }}", "</s>"),
        ("<|bot|>{{ m.content }}\n\n", "</s>"),
        ("<|bot|>{{ m.content }}    ", "</s>"),
        ("<|bot|>{{ m.content }}#", "#"),
        ("<|bot|>{{ m.content }}{% if not loop.last %}<|im_end|>\n{% endif %}", "<|im_end|>"),
        ("<|bot|><think>\n\n</think>{{ m.content }}<|im_end|>", "<|im_end|>"),
        ("<|bot|>{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n", "<|im_end|>"),
        ("<|bot|>{{ m.content | upper }}<|im_end|>", "</s>"),
        ("{{ raise_exception('no answers here') }}", "</s>"),
    ],
)
def test_the_label_is_what_the_template_writes(chatty, written: str, label: str) -> None:
    codec = codec_of(chatty, USER + written + LAST)
    assert codec.pieces[codec.eos_id] == label and codec.end.notice == ""
    assert codec.end.ids[0] == codec.end.label and chatty.eos_token_id in codec.end.ids


def test_a_template_that_demands_a_system_message_ends_its_turns_all_the_same(chatty) -> None:
    demand = "{% if messages[0].role != 'system' %}{{ raise_exception('say who I am') }}{% endif %}"
    template = demand + USER + " {{ m.content }}<|im_end|>\n" + LAST.replace("<|bot|>", "")
    codec = codec_of(chatty, template)
    assert codec.pieces[codec.eos_id] == "<|im_end|>"
    # The system message is written like an answer, so that only the last of the prompt's turns may count.
    assert response_lead(template, **codec.template_variables) == " "


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("{{ m.content }}\n### End", "</s>"),
        ("{{ m.content }}<|im_finish|>\n", "</s>"),
        ("{{ m.content }} #", "</s>"),
        ("{{ m.content }}\n### End<|im_end|>", "<|im_end|>"),
    ],
)
def test_several_tokens_as_an_end_are_reported(chatty, written: str, label: str) -> None:
    codec = codec_of(chatty, USER + written + LAST)
    assert codec.pieces[codec.eos_id] == label
    assert codec.end.notice.startswith("The chat template of source `chatty` ends a turn with ")
    assert "which is several tokens" in codec.end.notice and "\n" not in codec.end.notice


def test_without_a_template_the_tokenizer_s_own_or_its_end_token(chatty) -> None:
    assert TokenCodec(chatty, source="x").eos_id == chatty.eos_token_id
    own = copy.deepcopy(chatty)
    own.chat_template = PRESETS["chatml"]
    codec = TokenCodec(own, source="x")
    assert codec.pieces[codec.eos_id] == "<|im_end|>"
    assert codec.with_template(PRESETS["vicuna"]).eos_id == own.eos_token_id and codec.with_template(PRESETS["chatml"]) is codec
    assert codec.pieces[codec.eos_id] == "<|im_end|>", "the codec itself stays as it is"


def test_stops_of_the_generation_config_are_ends_and_ordinary_ones_stops_only(chatty) -> None:
    blank, eot = chatty.convert_tokens_to_ids("#"), chatty.convert_tokens_to_ids("<|eot|>")
    codec = codec_of(chatty, PRESETS["chatml"], stop_ids=(eot, blank, 10_000))
    im_end = chatty.convert_tokens_to_ids("<|im_end|>")
    assert codec.end.ids == (im_end, chatty.eos_token_id, eot)
    assert set(codec.end.stops) == {im_end, chatty.eos_token_id, eot, blank}


@pytest.mark.parametrize("build", [byte_vocab_map, min_edit_distance_map])
def test_all_ends_of_a_source_go_to_the_end_of_the_target(chatty, pico_tokenizer, build) -> None:
    source = codec_of(chatty, PRESETS["chatml"], stop_ids=(chatty.convert_tokens_to_ids("<|eot|>"),))
    target = TokenCodec(pico_tokenizer, source="t", chat_template=PRESETS["plain"])
    found = build(source, target)
    assert [found.ids[i] for i in source.end.ids] == [target.eos_id] * 3
    back = build(target, source)
    assert back.ids[target.eos_id] == source.eos_id == chatty.convert_tokens_to_ids("<|im_end|>")


def test_equal_tokenizers_need_a_map_only_where_their_turns_end_differently(chatty) -> None:
    plain, chatml = codec_of(chatty, PRESETS["plain"]), codec_of(chatty, PRESETS["chatml"])
    assert map_ends(None, plain, plain) is None
    found = map_ends(None, plain, chatml)
    assert found is not None and found.ids[plain.eos_id] == chatml.eos_id
    assert (found.ids != range(plain.vocab_size)).sum() == 1


def test_an_end_that_the_vocabulary_cannot_spell_is_no_label() -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    codec = codec_of(tokenizer, "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    assert codec.eos_id == 1 and codec.end.ids == (1,) and "ends a turn with '<|end|>'" in codec.end.notice
