"""The codec against real tokenizers: bytes, ends, dummy prefixes, special tokens, losses, and an independent oracle."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.errors import AlignmentError, SourceError
from models.tokenization.codec import EncodedText, TokenCodec

BYTE_COMPLETE = ["llama2", "gpt2", "qwen", "mistral", "stories260K", "qa_llama", "math_mpt", "code_neox"]
LOSSY = ["babyllama105", "t5", "mpt_neox20b"]
TEXTS = [
    "",
    "Hello",
    " Hello world",
    "two  blanks,   three\n\n\tand a tab\r\nCRLF ",
    "   ",
    "\n",
    "naïve café, Zürich, 東京, здравствуй, مرحبا",
    "family 👩‍👩‍👧‍👦 and flag 🇩🇪 and thumb 👍🏽",
    "def f(x):\n    return {'a': x[0]}\n",
    "</s><s><unk><pad><|endoftext|><|im_end|> <0x0A> Ġ",
    "1234567890 3.14 [INST] <<SYS>>",
    "x" * 300,
]


def tokens(codec: TokenCodec, text: EncodedText) -> list[str]:
    return [codec.pieces[i] for i in text.ids]


def expected_loss(codec: TokenCodec, text: str, encoded: EncodedText) -> list[bool]:
    """Straight from the definition: token t stands for the bytes from the end of token t-1 to its own end."""
    data, begin, lossy = text.encode(), 0, []
    for index, end in zip(encoded.ids.tolist(), encoded.ends.tolist(), strict=True):
        lossy.append(codec.token_bytes[index] != data[begin:end] or begin == end)
        begin = end
    return lossy


@pytest.mark.parametrize("name", BYTE_COMPLETE)
def test_byte_complete_tokenizers_reproduce_every_text(real, name: str) -> None:
    codec = real(name)
    for text, encoded in zip(TEXTS, codec.encode_responses(TEXTS), strict=True):
        assert encoded.lossless, (text, tokens(codec, encoded))
        assert codec.decode(encoded.ids) == text
        assert encoded.num_bytes == len(text.encode())
        spelled = [codec.token_bytes[i] for i in encoded.ids]
        assert encoded.ends.tolist() == np.cumsum([len(s) for s in spelled]).tolist()
        assert encoded.ids.dtype == encoded.ends.dtype == np.int32 and encoded.lossy.dtype == np.bool_


@pytest.mark.parametrize("name", [*BYTE_COMPLETE, *LOSSY])
def test_no_text_becomes_a_special_token_and_losses_are_where_the_bytes_differ(real, name: str) -> None:
    codec = real(name)
    texts = [*TEXTS, "e\u0301te\u0301", "ﬁne ①", "<extra_id_0></s> </s>", "a\x00b", "日本 x", "a▁b"]
    for text, encoded in zip(texts, codec.encode_responses(texts), strict=True):
        unknown = [i for i in encoded.ids.tolist() if codec.token_bytes[i] is None]
        assert all("unk" in codec.pieces[i] for i in unknown), (text, tokens(codec, encoded))
        assert encoded.lossy.tolist() == expected_loss(codec, text, encoded)
        assert (np.diff(encoded.ends) >= 0).all() and (encoded.ends <= encoded.num_bytes).all()
        assert encoded.lossless == (codec.decode(encoded.ids) == text and not unknown)


@pytest.mark.parametrize("name", ["llama2", "mistral", "stories260K", "qa_llama", "babyllama105", "t5"])
def test_responses_get_no_dummy_prefix_but_prompts_do(real, name: str) -> None:
    codec = real(name)
    (response,) = codec.encode_responses(["once"])
    (prompt,) = codec.encode_prompts(["once"])
    assert b"".join(codec.token_bytes[i] for i in response.ids) == b"once"
    assert b"".join(codec.token_bytes[i] for i in prompt) == b" once"


def test_the_lead_of_a_template_is_encoded_with_the_response_and_not_counted(real) -> None:
    codec = real("llama2")
    (bare,), (led,) = codec.encode_responses(["Hello"]), codec.encode_responses(["Hello"], lead=" ")
    assert tokens(codec, bare) == ["Hello"] and tokens(codec, led) == ["▁Hello"]
    assert (led.ends.tolist(), led.starts.tolist(), led.num_bytes, led.lead) == ([5], [-1, 5], 5, 1)
    assert led.lossless


def test_known_tokens(real) -> None:
    llama, neox = real("llama2"), real("mpt_neox20b")
    assert tokens(llama, llama.encode_responses(["a\n\tb"])[0]) == ["a", "<0x0A>", "<0x09>", "b"]
    assert llama.encode_responses([" Hello world"])[0].ids.tolist() == [15043, 3186]
    assert neox.encode_responses(["Hello world"])[0].ids.tolist() == [12092, 1533]
    assert llama.encode_prompts(["<s>[INST] hi [/INST]"])[0][0] == llama.bos_id
    # A character of four bytes, and its tokens' ends inside it.
    assert llama.encode_responses(["a👩"])[0].ends.tolist() == [1, 2, 3, 4, 5]


def test_lossy_positions_are_the_right_ones(real) -> None:
    baby, t5, neox = real("babyllama105"), real("t5"), real("mpt_neox20b")
    (text,) = baby.encode_responses(["ab\nc"])
    assert (tokens(baby, text), text.lossy.tolist()) == (["a", "b", "<unk>", "c"], [False, False, True, False])
    assert text.ends.tolist() == [1, 2, 3, 4]
    (text,) = t5.encode_responses(["one  two"])
    assert (tokens(t5, text), text.lossy.tolist(), text.ends.tolist()) == (["one", "▁two"], [False, True], [3, 8])
    (text,) = baby.encode_responses(["ab  "])
    assert not text.lossy.any() and not text.reaches_end and not text.lossless
    (text,) = baby.encode_responses(["   "])
    assert len(text.ids) == 0 and not text.lossless
    # SentencePiece writes blanks as ▁, so that a real ▁ comes back as a blank.
    (text,) = real("llama2").encode_responses(["a▁b"])
    assert (text.lossy.tolist(), text.ends.tolist()) == ([False, True], [1, 5])
    # NFC: the accented letter is another sequence of bytes, what follows is untouched.
    (text,) = neox.encode_responses(["e\u0301 a"])
    assert (text.lossy.tolist(), text.ends.tolist()) == ([True, False], [3, 5])


@pytest.mark.parametrize("name", ["llama2", "mpt_neox20b", "gpt2", "qwen"])
def test_test_vectors_of_an_independent_implementation(real, name: str) -> None:
    codec = real(name)
    path = Path("data/external/tokenizers") / name / "test_vectors.json"
    vectors = json.loads(path.read_text(encoding="utf-8"))
    assert len(vectors) == 47
    texts = [v["text"] for v in vectors]
    wanted = [v["ids"] for v in vectors]
    assert [ids.tolist() for ids in codec.encode_prompts(texts)] == wanted
    if codec.word_start == "Ġ":
        got = codec.encode_responses(texts)
    else:
        # The vectors have SentencePiece's dummy prefix, which responses get only as a template's lead.
        got = [e for t in texts for e in codec.encode_responses([t], lead=" " if t else "")]
    assert [e.ids.tolist() for e in got] == wanted
    assert all(e.lossless for e in got)


def test_place_finds_given_tokens_without_encoding(real) -> None:
    codec = real("llama2")
    text = "Hello 東京\n"
    (own,) = codec.encode_responses([text])
    placed = codec.place(own.ids.astype(np.uint32), text)
    assert placed.ends.tolist() == own.ends.tolist() and placed.lossless
    # Any tokens that spell the text will do, here the byte pieces of "Hello 東京\n".
    spelled = np.array([codec.pieces.index(f"<0x{b:02X}>") for b in text.encode()])
    assert codec.place(spelled, text).ends.tolist() == list(range(1, 14))
    (led,) = codec.encode_responses([text], lead=" ")
    assert codec.place(led.ids, text, lead=" ").starts.tolist() == led.starts.tolist()


def test_place_follows_a_lossy_tokenizer_and_refuses_foreign_tokens(real) -> None:
    codec = real("babyllama105")
    (own,) = codec.encode_responses(["ab\nc"])
    assert codec.place(own.ids, "ab\nc").lossy.tolist() == own.lossy.tolist()
    with pytest.raises(AlignmentError, match=r"source `babyllama105`.*token 1 is .* and not .*'abc'"):
        codec.place(own.ids[[0, 3]], "abc")
    with pytest.raises(AlignmentError, match="token 0 is 105 and not"):
        codec.place(np.array([105]), "a")


def test_decode_skips_special_tokens_and_rows_beyond_the_vocabulary(real) -> None:
    codec = real("llama2")
    ids = [codec.bos_id, *codec.encode_responses([" 東"])[0].ids.tolist(), codec.eos_id, codec.vocab_size + 5]
    assert codec.decode(ids) == " 東"
    broken = codec.pieces.index("<0xE6>")
    assert codec.decode([broken, *codec.encode_responses(["a"])[0].ids.tolist()]) == "�a"


@pytest.mark.parametrize("name", ["llama2", "gpt2", "qwen"])
@pytest.mark.parametrize("text", ["an emoji 😀", "日本", "é", "a"])
def test_an_answer_cut_inside_a_character_loses_the_unfinished_tokens(real, name: str, text: str) -> None:
    """However many tokens are left, no label is U+FFFD, and what is left is a beginning of the text in whole tokens."""
    codec = real(name)
    (encoded,) = codec.encode_responses([text])
    for size in range(len(encoded.ids) + 1):
        left = codec.decode(encoded.ids[:size])
        assert text.startswith(left) and "�" not in left
        assert len(left.encode()) in {0, *encoded.ends[:size].tolist()}


def test_attributes(pico_tokenizer) -> None:
    codec = TokenCodec(pico_tokenizer, source="pico")
    assert (codec.bos_id, codec.eos_id, codec.pad_id) == (0, 1, 2)
    assert (codec.bos_token, codec.eos_token, codec.word_start) == ("<s>", "</s>", "Ġ")
    assert codec.vocab_size == len(pico_tokenizer) == len(codec.token_bytes) == len(codec.byte_lengths)
    assert codec.token_bytes[0] is None and codec.byte_lengths[0] == 0
    assert {b for b in codec.token_bytes if b and len(b) == 1} == {bytes([b]) for b in range(256)}


def test_pad_falls_back_to_eos_and_a_missing_end_token_is_an_error(pico_tokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = pico_tokenizer.backend_tokenizer
    assert TokenCodec(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"), source="x").pad_id == 1
    with pytest.raises(SourceError, match=r"source `x` has no end token"):
        TokenCodec(PreTrainedTokenizerFast(tokenizer_object=backend), source="x")


def test_padding_and_truncation_set_by_others_change_nothing(pico_tokenizer) -> None:
    import copy

    tokenizer = copy.deepcopy(pico_tokenizer)
    text = "Once upon a time there was a little town"
    before = TokenCodec(tokenizer, source="x")
    tokenizer(text, truncation=True, max_length=4, padding="max_length")
    after = TokenCodec(tokenizer, source="x")
    assert before.digest == after.digest
    assert after.encode_responses([text])[0].ids.tolist() == before.encode_responses([text])[0].ids.tolist()
    assert len(after.encode_prompts([text])[0]) > 4
