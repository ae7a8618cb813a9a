import pytest

from models.retrieval.pico_encoder import train_pico_tokeniser
from models.retrieval.tokenising import TextTokeniser

TEXTS = ["name worth house ; area north ; food none", "i need a cheap house in the north please"]


@pytest.fixture(scope="module")
def tokeniser() -> TextTokeniser:
    return train_pico_tokeniser(TEXTS * 20, vocab_size=200)


def test_contexts_lose_their_oldest_words_and_keep_the_first_token(tokeniser: TextTokeniser) -> None:
    whole = tokeniser.encode([TEXTS[1]], max_tokens=100, drop="left")[0]
    cut = tokeniser.encode([TEXTS[1]], max_tokens=6, drop="left")[0]
    assert len(cut) == 6
    assert cut == [tokeniser.cls_id, *whole[-5:]]
    assert cut[-1] == tokeniser.sep_id


def test_entities_lose_their_last_attributes(tokeniser: TextTokeniser) -> None:
    whole = tokeniser.encode([TEXTS[0]], max_tokens=100, drop="right")[0]
    cut = tokeniser.encode([TEXTS[0]], max_tokens=6, drop="right")[0]
    assert cut == [*whole[:5], tokeniser.sep_id]


def test_padding_and_truncation_of_the_file_are_switched_off(tokeniser: TextTokeniser) -> None:
    tokeniser.tokenizer.enable_truncation(4)
    tokeniser.tokenizer.enable_padding(length=50)
    again = TextTokeniser(tokeniser.tokenizer, cls_id=2, sep_id=3, pad_id=0)
    rows = again.encode(["house", TEXTS[1]], max_tokens=100, drop="left")
    assert len(rows[0]) < 10 < len(rows[1])


def test_pad_marks_what_is_text(tokeniser: TextTokeniser) -> None:
    ids, mask = tokeniser.pad([[5, 6, 7], [8]], device="cpu")
    assert ids.tolist() == [[5, 6, 7], [8, tokeniser.pad_id, tokeniser.pad_id]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_empty_text_is_its_two_marks(tokeniser: TextTokeniser) -> None:
    assert tokeniser.encode([""], max_tokens=8, drop="left") == [[tokeniser.cls_id, tokeniser.sep_id]]


def test_a_text_that_spells_a_special_token_is_text(tokeniser: TextTokeniser) -> None:
    tokeniser.tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    again = TextTokeniser(tokeniser.tokenizer, cls_id=2, sep_id=3, pad_id=0)
    (row,) = again.encode(["house [SEP] [PAD] north[CLS]"], max_tokens=100, drop="left")
    assert (row[0], row[-1]) == (2, 3)
    assert not {0, 2, 3}.intersection(row[1:-1])
