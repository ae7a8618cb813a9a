import json

import numpy as np
import pytest
from support import dialogue_parts as parts

from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.setup import DialogueData, make_generator, make_meta, measured_edges
from models.errors import ArtifactError, DataError
from models.params.index import IndexParams


@pytest.fixture
def folders(tmp_path):
    return parts.make_folders(tmp_path)


def test_data_is_read(folders):
    data = DialogueData.read(folders.data)
    assert (len(data.kb), len(data.train), len(data.valid)) == (12, 40, 10)
    texts = list(data.texts())
    assert len(texts) == 2 * 40 + 12 and data.train[0].response in texts and any("name anchor" in t for t in texts)


def test_bad_data_is_named(folders):
    (folders.data / "values.json").write_text("[1")
    with pytest.raises(ArtifactError, match=r"values\.json"):
        DialogueData.read(folders.data)
    (folders.data / "valid.jsonl").write_text("")
    with pytest.raises(DataError, match=r"valid.jsonl must have turns, but is empty"):
        DialogueData.read(folders.data)


def test_edges_are_terciles_of_what_the_warm_start_retrieves(folders):
    data = DialogueData.read(folders.data)
    retriever = Retriever.load(folders.warm / "retriever")
    cfg = parts.town.dialogue_params(k=4, meta_knowledge={"edges": "calibrated"})
    options = {"retriever": retriever, "index": IndexParams(), "device": "cpu"}
    low, high = measured_edges(cfg, data, setting="large_scale", **options)
    from models.dialogue.retrieval.embedding import embed_contexts, embed_entities

    scores = embed_contexts(retriever, [t.context for t in data.valid]) @ embed_entities(retriever, data.kb).T
    top = np.sort(scores, axis=1)[:, -4:].ravel()
    assert np.mean(top < low) == pytest.approx(1 / 3, abs=0.05) and np.mean(top >= high) == pytest.approx(1 / 3, abs=0.05)
    assert measured_edges(cfg, data, setting="condensed", **options) != (low, high)
    assert measured_edges(parts.town.dialogue_params(), data, setting="large_scale", **options) == (0.25, 0.75)


def test_tokenizer_knows_the_meta_knowledge(folders):
    data, cfg = DialogueData.read(folders.data), parts.town.dialogue_params()
    prefix = make_generator(cfg, data, make_meta(cfg, variant="prefix", edges=(0.25, 0.75)), root=folders.data)
    ids = prefix.builder.entity_ids(data.kb[0], "<1th-entity> <high-confidence> <new-entity>")
    assert prefix.tokenizer.convert_ids_to_tokens(ids)[:3] == ["<1th-entity>", "<high-confidence>", "<new-entity>"]
    none = make_generator(cfg, data, make_meta(cfg, variant="contrastive", edges=(0.25, 0.75)), root=folders.data)
    assert "<1th-entity>" not in none.tokenizer.get_vocab()
    assert json.loads((folders.data / "values.json").read_text())
