"""The sentence encoder as a voter, with a tiny untrained BERT."""

from pathlib import Path

import pytest

from models.errors import ParamsError, SourceError
from models.fusion.embedding_scores import SentenceEncoder, embedding_scores, load_sentence_encoder
from models.fusion.rewards import TextItem
from models.schema import Message

KEY = "teach.rewards.scorers[meaning].model"
WORDS = ["the", "bell", "rings", "in", "town", "a", "river", "never", "sleeps"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("encoders")
    folder = root / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = BertConfig(vocab_size=4 + len(WORDS), max_position_embeddings=24, initializer_range=0.5, **sizes)
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return root


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return load_sentence_encoder("tiny", revision=None, root=encoder_folder, device="cpu", key=KEY)


def items(*texts: str) -> list[TextItem]:
    return [TextItem(str(i), (Message("user", "?"),), text) for i, text in enumerate(texts)]


def test_the_ground_truth_itself_scores_one_and_nothing_more(encoder: SentenceEncoder) -> None:
    said = ["the bell rings in town", "a river never sleeps", "", "bell bell bell"]
    scores = embedding_scores(encoder, items(*said), ["the bell rings in town"] * 4, batch_size=2)
    assert scores[0] == 1.0
    assert all(-1 <= score < 1 for score in scores[1:])


def test_batches_and_order_do_not_change_a_score(encoder: SentenceEncoder) -> None:
    said, truths = ["the bell", "a river never sleeps in town", "the bell"], ["a bell rings", "the river", "a bell rings"]
    one = embedding_scores(encoder, items(*said), truths, batch_size=1)
    moved: list[int] = []
    other = embedding_scores(encoder, items(*said[::-1]), truths[::-1], batch_size=8, on_progress=moved.append)[::-1]
    assert one == pytest.approx(other, abs=1e-5)
    assert one[0] == one[2]
    assert moved == [3]


def test_a_text_beyond_the_positions_is_cut(encoder: SentenceEncoder) -> None:
    assert encoder.max_tokens == 24
    (score,) = embedding_scores(encoder, items("town " * 100), ["town"], batch_size=1)
    assert -1 <= score <= 1


def test_what_is_no_encoder_is_refused_under_the_scorers_key(encoder_folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^`teach.rewards.scorers\[meaning\].model` names the folder .*Check the path\.$"):
        load_sentence_encoder("./none", revision=None, root=encoder_folder, device="cpu", key=KEY)
    with pytest.raises(ParamsError, match=r"`teach.rewards.scorers\[meaning\].revision` must be set for `org/bert`"):
        load_sentence_encoder("org/bert", revision=None, root=encoder_folder, device="cpu", key=KEY)
