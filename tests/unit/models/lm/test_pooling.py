import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser
from models.errors import SourceError
from models.lm.pooling import Pooling, Tower, pool, read_pooling
from models.params.retriever import RetrieverParams

STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [7.0, 7.0], [8.0, 8.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(("kind", "expected"), [("mean", [[2.0, 3.0], [5.0, 6.0]]), ("cls", [[1.0, 2.0], [5.0, 6.0]])])
def test_pool_reads_tokens_only(kind: Pooling, expected: list[list[float]]) -> None:
    assert pool(STATES, MASK, kind).tolist() == expected


@pytest.mark.parametrize("projection", [0, 5])
def test_tower_gives_unit_vectors_whatever_the_padding(projection: int) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = BertModel(BertConfig(vocab_size=50, max_position_embeddings=16, **sizes), add_pooling_layer=False)
    tower = Tower(encoder, pooling="mean", projection=projection).eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    alone = tower(ids, torch.ones_like(ids))
    padded = tower(torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 9, 9, 9, 3]]), torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6]))
    assert alone.shape == (1, projection or 16)
    assert tower.dim == (projection or 16)
    torch.testing.assert_close(padded[:1], alone)
    torch.testing.assert_close(padded.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(("kind", "expected"), [("max", [[3.0, 4.0], [5.0, 6.0]]), ("last", [[3.0, 4.0], [5.0, 6.0]])])
def test_other_poolings_read_tokens_only_too(kind: Pooling, expected: list[list[float]]) -> None:
    assert pool(STATES, MASK, kind).tolist() == expected
    assert pool(-STATES, MASK, "max").tolist() == [[-1.0, -2.0], [-5.0, -6.0]]


TEXTS = ["a cheap house in the north", "name worth house ; area north"] * 10


def folder(place: Path, *kinds: str, config: Any = None) -> str:
    types = [f"sentence_transformers.models.{kind}" for kind in kinds]
    modules = [{"idx": i, "path": f"{i}_{kind}" if i else "", "type": types[i]} for i, kind in enumerate(kinds)]
    if kinds:
        (place / "modules.json").write_text(json.dumps(modules))
    if config is not None:
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling/config.json").write_text(json.dumps(config))
    return str(place)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_mean_sqrt_len_tokens": False}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
@pytest.mark.parametrize("kinds", [(), ("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")])
def test_the_pooling_of_an_encoder(tmp_path: Path, kinds: tuple[str, ...], config: dict[str, Any], expected: str) -> None:
    assert read_pooling(folder(tmp_path, *kinds, config=config), revision=None) == expected


def test_an_encoder_that_says_nothing(tmp_path: Path) -> None:
    assert read_pooling(str(tmp_path), revision=None) is None


@pytest.mark.parametrize(
    ("kinds", "config", "said"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode_mean_tokens": True}, "but is Dense"),
        (("Transformer", "WeightedLayerPooling"), None, "but is WeightedLayerPooling"),
        (("Transformer",), None, "must hold one Pooling, but is 0"),
        (("Transformer", "Pooling"), None, "1_Pooling/config.json must be there, but is missing"),
        ((), {"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens"),
        ((), {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "must name one pooling of cls, mean, max, last"),
        ((), {}, "must name one pooling"),
        ((), [], "must hold an object, but is list"),
    ],
)
def test_what_we_cannot_do_is_refused(tmp_path: Path, kinds: tuple[str, ...], config: Any, said: str) -> None:
    with pytest.raises(SourceError, match=r"`retriever\.encoder`") as raised:
        read_pooling(folder(tmp_path, *kinds, config=config), revision=None)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(SourceError, match=r"modules.json must be a readable JSON file"):
        read_pooling(str(tmp_path), revision=None)


@pytest.mark.parametrize(("asked", "used"), [("auto", "cls"), ("mean", "mean")])
def test_a_retriever_pools_as_its_encoder_does_unless_told_otherwise(tmp_path: Path, asked: Any, used: str) -> None:
    cfg = RetrieverParams(pooling=asked, pico={"hidden_size": 16, "num_layers": 1, "vocab_size": 200})  # type: ignore[arg-type]
    tokeniser = train_pico_tokeniser(TEXTS, vocab_size=200)
    build_pico_encoder(cfg.pico, tokeniser, max_tokens=128, seed=0).save_pretrained(tmp_path)
    tokeniser.save(tmp_path)
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizerFast", **marks}))
    folder(tmp_path, "Transformer", "Pooling", "Normalize", config={"pooling_mode_cls_token": True})
    made = build_retriever(cfg.model_copy(update={"encoder": str(tmp_path)}), texts=[], root=tmp_path)
    (tower,) = made.towers
    assert isinstance(tower, Tower) and tower.pooling == made.cfg.pooling == used
    made.save(tmp_path / "saved")
    assert type(made).load(tmp_path / "saved").cfg.pooling == used
