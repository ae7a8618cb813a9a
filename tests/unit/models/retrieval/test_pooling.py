import pytest
import torch
from transformers import BertConfig, BertModel

from models.retrieval.pooling import Pooling, Tower, pool

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
