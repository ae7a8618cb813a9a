import numpy as np
import pytest
import torch
from support import town

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.retrieval.embedding import embed_contexts, embed_entities
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.index_refresh import IndexRefresher
from models.errors import RetrievalError
from models.params.index import IndexParams


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("town")
    data = town.write_data(root / "data")
    return data, town.write_warm(root / "warm", data) / "retriever"


@pytest.fixture
def parts(folders):
    data, warm = folders
    retriever, kb = Retriever.load(warm), KnowledgeBase.load(data / "kb.jsonl")
    return retriever, kb, IndexRefresher(retriever, kb, cfg=IndexParams(), device="cpu")


def test_stale_and_fresh_rankings_differ_after_a_step_and_agree_after_a_refresh(parts):
    """Acceptance check e."""
    retriever, kb, refresher = parts
    refresher.refresh()
    contexts = [["i want thai food in the north"], ["greek please"], ["something in the west"]]
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in retriever.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g), alpha=0.1)
    queries = embed_contexts(retriever, contexts)
    fresh = np.argsort(-(queries @ embed_entities(retriever, kb).T), axis=1, kind="stable")[:, :5]
    assert not np.array_equal(refresher.index.search(queries, 5).rows, fresh)
    refresher.encoder_changed()
    assert refresher.stale and refresher.refresh() and not refresher.stale
    assert np.array_equal(refresher.index.search(queries, 5).rows, fresh)


def test_nothing_is_embedded_while_the_encoder_stands_still(parts):
    *_, refresher = parts
    assert refresher.refresh() and not refresher.refresh()
    assert (refresher.num_embedded, refresher.num_refreshes) == (12, 1)
    refresher.encoder_changed()
    refresher.refresh()
    assert refresher.num_embedded == 24


def test_searching_before_the_first_refresh_is_an_error(parts):
    with pytest.raises(RetrievalError, match="Call `refresh` first"):
        _ = parts[2].index
