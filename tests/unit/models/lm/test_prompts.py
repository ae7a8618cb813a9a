from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import DataError, ParamsError
from models.lm.prompts import PromptItem, TextItem, cut_left, fit_prompts, fit_texts, pad_rows, plan_batches, source_response_lead
from models.schema import Message
from models.tokenization.chat import PRESETS


def test_every_row_once_longest_first_ties_in_order():
    assert plan_batches([3, 9, 3, 5, 3], max_rows=2) == [[1, 3], [0, 2], [4]]


def test_padded_tokens_stay_under_the_limit():
    lengths = [7, 1, 30, 2, 2, 8, 16, 1, 5]
    batches = plan_batches(lengths, max_tokens=16)
    assert sorted(i for batch in batches for i in batch) == list(range(9))
    assert batches[0] == [2], "a row longer than the limit goes alone"
    assert all(len(b) * max(lengths[i] for i in b) <= 16 for b in batches[1:])
    assert batches[2] == [5, 0], "rows are added while they fit"


def test_limits_combine_and_empty_input_is_empty():
    assert plan_batches([4, 4, 4, 4], max_rows=3, max_tokens=8) == [[0, 1], [2, 3]]
    assert plan_batches([1] * 4, max_rows=3, max_tokens=8) == [[0, 1, 2], [3]]
    assert plan_batches([], max_rows=2) == []


def test_padding_sides():
    rows = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    ids, mask = pad_rows(rows, pad_id=2, side="left", device=torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [2, 2, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, mask = pad_rows(rows, pad_id=2, side="right", device=torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [8, 2, 2]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64


USER = [Message("user", "What is 17 plus 25?")]


def with_context(pico, length: int, preset: str = "plain"):
    loaded = pico("llama")
    return replace(loaded.source, context_length=length, chat_template=PRESETS[preset]), loaded.codec


def test_prompt_goes_through_the_sources_template(pico):
    source, codec = with_context(pico, 128)
    (prompt,) = fit_prompts(source, codec, [PromptItem("a", USER)], room=8, overflow="error")
    assert codec.tokenizer.decode(prompt.ids) == "<s>Q: What is 17 plus 25?\nA: "
    assert not prompt.truncated


def test_long_prompt_keeps_bos_and_end(pico):
    source, codec = with_context(pico, 20)
    (whole,) = fit_prompts(replace(source, context_length=128), codec, [PromptItem("a", USER)], room=8, overflow="error")
    (prompt,) = fit_prompts(source, codec, [PromptItem("a", USER)], room=8, overflow="truncate_left")
    assert len(whole.ids) > 12 == len(prompt.ids) and prompt.truncated
    assert prompt.ids[0] == codec.bos_id
    assert prompt.ids[1:].tolist() == whole.ids[-11:].tolist()


def test_overflow_error_names_every_prompt(pico):
    source, codec = with_context(pico, 20)
    items = [PromptItem("row-1", USER), PromptItem("row-2", [Message("user", "a")]), PromptItem("row-3", USER)]
    with pytest.raises(DataError) as caught:
        fit_prompts(source, codec, items, room=8, overflow="error")
    assert [p.where for p in caught.value.problems] == ["`row-1`", "`row-3`"]
    assert "must have a prompt of at most 12 tokens of `llama`" in str(caught.value)


def test_no_room_for_any_prompt(pico):
    source, codec = with_context(pico, 20)
    with pytest.raises(ParamsError, match="must be at most 18, to leave room for a prompt in the context of `llama`, but is 19"):
        fit_prompts(source, codec, [PromptItem("a", USER)], room=19, overflow="truncate_left")


def test_empty_prompt_is_named(pico):
    source, codec = with_context(pico, 20)
    bare = replace(source, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(DataError, match="`a` must have a prompt of at least 1 token, but is empty"):
        fit_prompts(bare, codec, [PromptItem("a", [Message("user", "")])], room=8, overflow="truncate_left")


def test_text_is_prompt_response_and_end_token(pico):
    source, codec = with_context(pico, 128)
    (text,) = fit_texts(source, codec, [TextItem("a", USER, "It is 42.</s>")], overflow="error")
    assert text.labels[-1] == codec.eos_id
    assert codec.decode(text.labels[:-1]) == "It is 42.</s>", "special-looking text of a response stays text"
    assert codec.eos_id not in text.labels[:-1]
    assert text.inputs.tolist() == [*text.prompt.tolist(), *text.labels[:-1].tolist()]
    assert text.response.num_bytes == 13 and text.response.lossless


def test_prompt_gives_way_to_the_response(pico):
    source, codec = with_context(pico, 128)
    (whole,) = fit_texts(source, codec, [TextItem("a", USER, "It is 42.")], overflow="error")
    tight = replace(source, context_length=len(whole.inputs) - 3)
    (text,) = fit_texts(tight, codec, [TextItem("a", USER, "It is 42.")], overflow="truncate_left")
    assert len(text.inputs) == tight.context_length and text.truncated
    assert text.labels.tolist() == whole.labels.tolist()
    with pytest.raises(DataError, match="`a` must have a prompt of at most"):
        fit_texts(tight, codec, [TextItem("a", USER, "It is 42.")], overflow="error")


def test_exact_fit_is_not_truncated(pico):
    source, codec = with_context(pico, 128)
    (whole,) = fit_texts(source, codec, [TextItem("a", USER, "It is 42.")], overflow="error")
    (text,) = fit_texts(
        replace(source, context_length=len(whole.inputs)), codec, [TextItem("a", USER, "It is 42.")], overflow="error"
    )
    assert not text.truncated


def test_response_that_alone_does_not_fit_is_an_error(pico):
    source, codec = with_context(pico, 16)
    items = [TextItem("long", USER, "x" * 16), TextItem("fits", USER, "x" * 15)]
    with pytest.raises(DataError) as caught:
        fit_texts(source, codec, items, overflow="truncate_left")
    assert [p.where for p in caught.value.problems] == ["`long`"]
    assert "must have a response of at most 15 tokens of `llama`" in str(caught.value)


def test_lead_of_the_template_is_encoded_but_not_counted(pico):
    source, codec = with_context(pico, 128, "vicuna")
    assert (
        source_response_lead(source, codec) == " "
        and source_response_lead(replace(source, chat_template=PRESETS["plain"]), codec) == ""
    )
    (text,) = fit_texts(source, codec, [TextItem("a", USER, "It is 42.")], overflow="truncate_left")
    assert codec.decode(text.labels) == " It is 42." and text.response.num_bytes == 9


def test_cut_left_without_bos_keeps_the_end():
    ids = np.arange(6, dtype=np.int32)
    assert cut_left(ids, 3, keep_first=0).tolist() == [0, 4, 5]
    assert cut_left(ids, 3, keep_first=9).tolist() == [3, 4, 5]
    assert cut_left(ids, 1, keep_first=0).tolist() == [5]
    assert ids.tolist() == [0, 1, 2, 3, 4, 5]
