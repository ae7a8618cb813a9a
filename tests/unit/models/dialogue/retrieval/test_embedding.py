from pathlib import Path

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.retrieval import embedding
from models.dialogue.retrieval.embedding import embed_contexts, embed_entities
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.params.retriever import PicoEncoder, RetrieverParams

NAMES = ["worth house", "the golden wok", "a", "el shaddai guest house in the north of the town", "gonville hotel"]
KB = KnowledgeBase([Entity(str(i), "hotel", {"name": name, "area": "north"}) for i, name in enumerate(NAMES)])


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    return build_retriever(cfg, texts=NAMES, root=Path())


@pytest.mark.parametrize("window", [4096, 2])
def test_every_entity_has_its_own_vector_in_its_own_place(
    retriever: Retriever, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_WINDOW", window)
    whole = embed_entities(retriever, KB, batch_size=2)
    assert whole.shape == (5, 32)
    assert whole.dtype == np.float32
    for row in range(len(KB)):
        alone = embed_entities(retriever, KB, rows=[row])
        np.testing.assert_allclose(whole[row], alone[0], atol=1e-6)
    np.testing.assert_allclose(embed_entities(retriever, KB, rows=[3, 0]), whole[[3, 0]], atol=1e-6)


def test_contexts_of_any_length_and_progress(retriever: Retriever) -> None:
    contexts = [["a hotel in the north of the town please", "the golden wok", "no"], ["worth house"], ["a"]]
    seen: list[tuple[int, int]] = []
    reps = embed_contexts(retriever, contexts, batch_size=2, on_progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(reps[1], embed_contexts(retriever, contexts[1:2])[0], atol=1e-6)
    assert seen == [(2, 3), (3, 3)]
    assert embed_contexts(retriever, []).shape == (0, 32)


def test_dropout_is_off_and_the_mode_is_given_back(retriever: Retriever) -> None:
    retriever.train()
    first, second = embed_entities(retriever, KB), embed_entities(retriever, KB)
    assert retriever.training
    retriever.eval()
    assert np.array_equal(first, second)
