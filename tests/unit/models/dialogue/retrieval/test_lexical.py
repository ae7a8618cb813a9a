"""Names, values and BM25 found in a context, against the rules they stand for."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.town import make_kb, make_turns

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.retrieval.lexical import FEATURES, FILE, LexicalIndex, lexical_features
from models.errors import RetrievalError
from models.evaluation.dialogue.baselines import Bm25, Frequency
from models.params.retriever import LexicalParams

KB = KnowledgeBase(
    [
        Entity("a", "hotel", {"name": "the golden house", "area": "north", "stars": "4", "parking": "yes"}),
        Entity("b", "hotel", {"name": "golden", "area": "north", "stars": "3", "near": "the golden house"}),
        Entity("c", "hotel", {"name": "bridge inn", "area": "south", "stars": "4"}),
    ],
    digest="kb",
)
EVERY = np.arange(3)


def features(*context: str, kb: KnowledgeBase = KB, rows: np.ndarray = EVERY, **cfg: float) -> list[dict[str, float]]:
    index = LexicalIndex.build(kb, LexicalParams(**cfg))
    found = index.features(index.query(context), rows)
    return [dict(zip(FEATURES, line, strict=True)) for line in found.round(4).tolist()]


def test_a_name_counts_as_a_whole_and_not_within_a_longer_one() -> None:
    found = features("is GOLDEN House, in the north, good ?")
    assert [x["name"] for x in found] == [1, 0, 0], "without `the`; the hotel called golden is not meant"
    assert [x["value"] for x in found] == [1, 1, 0], "the north"


def test_a_name_as_value_of_another_entity_counts_there() -> None:
    assert [x["value"] for x in features("near the golden house")] == [0, 1, 0]


def test_answers_are_no_values() -> None:
    assert [x["value"] for x in features("yes please")] == [0, 0, 0]


def test_each_value_counts_once_and_by_its_latest_mention() -> None:
    found = features("4 stars in the north", "the golden house ?", "4 stars i said", recency=0.5)
    assert found[0] == {**found[0], "name": 1, "name_recent": 0.5, "value": 2, "value_recent": 1.25}
    assert found[2] == {**found[2], "name": 0, "name_recent": 0, "value": 1, "value_recent": 1}


def test_a_value_across_two_utterances_does_not_count() -> None:
    assert [x["name"] for x in features("the bridge", "inn ?")] == [0, 0, 0]


def test_the_rules_are_those_of_the_floors() -> None:
    kb = KnowledgeBase(make_kb(12))
    contexts = [turn.context for turn in make_turns(make_kb(12), num=8, seed=3)] + [
        ("the castle", "55 02 ?", "north , thai thai")
    ]
    rows = np.tile(np.arange(12), (len(contexts), 1))
    found = lexical_features(LexicalIndex.build(kb, LexicalParams()), contexts, rows)
    for floor, columns in ((Frequency(kb), (0, 2)), (Bm25(kb), (4,))):
        hits = floor.rank(contexts, 12)
        ours = found[:, :, list(columns)].sum(axis=2)
        np.testing.assert_allclose(np.take_along_axis(ours, hits.rows, axis=1), hits.scores, rtol=1e-5)


def test_attributes_bound_what_is_looked_for_but_for_the_name() -> None:
    index = LexicalIndex.build(KB, LexicalParams(attributes=("area",)))
    found = index.features(index.query(["golden house , 4 stars , north"]), EVERY)
    assert found[:, 0].tolist() == [1, 0, 0] and found[:, 2].tolist() == [1, 1, 0]


def test_padding_and_unknown_words_have_nothing() -> None:
    index = LexicalIndex.build(KB, LexicalParams())
    assert not index.features(index.query(["golden house"]), np.array([-1])).any()
    assert len(index.query(["zebra"]).terms) == 0 and not index.features(index.query([]), EVERY).any()


@pytest.mark.parametrize("size", [60, 4000])
def test_the_best_are_those_of_a_table_over_all_entities(size: int) -> None:
    """The larger knowledge base goes by the rows found, the smaller by a table."""
    kb = KnowledgeBase(Entity(str(i), "d", {"name": f"n{i}", "a": f"x{i % 7}", "b": f"y{i % (size // 6)}"}) for i in range(size))
    index, weights = LexicalIndex.build(kb, LexicalParams()), np.array([3, 0, 2, 0, 0.1], dtype=np.float32)
    for context in (["n3 y5"], ["y5 y6 y7 y8"], ["n1"], ["zebra"]):
        query = index.query(context)
        scores = index.features(query, np.arange(size)) @ weights
        order = np.argsort(-scores, kind="stable")[:4]
        found = index.best(query, weights, 4)
        assert set(order[scores[order] > 0]) <= set(found.tolist())
        assert (scores[found] > 0).all()
        if len(found) > 4:
            assert len(set(scores[found[3:]].tolist())) == 1, "more than asked for tie with the last"


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    built = LexicalIndex.build(KB, LexicalParams(recency=0.9))
    built.save(tmp_path)
    read = LexicalIndex.load(tmp_path, expect_kb="kb")
    for context in (["golden house ? north"], ["bridge inn", "4 stars"]):
        np.testing.assert_array_equal(
            read.features(read.query(context), EVERY), built.features(built.query(context), EVERY), strict=True
        )
    assert len(read) == 3 and read.cfg == built.cfg
    empty = LexicalIndex.build(KnowledgeBase([Entity("a", "d", {})], digest="none"), LexicalParams())
    empty.save(tmp_path)
    assert not len(LexicalIndex.load(tmp_path, expect_kb="none").query(["golden"]).terms)


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    LexicalIndex.build(KB, LexicalParams()).save(tmp_path)
    with pytest.raises(RetrievalError, match="must be of knowledge base"):
        LexicalIndex.load(tmp_path, expect_kb="other")
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(RetrievalError, match="cannot be read"):
        LexicalIndex.load(tmp_path, expect_kb="kb")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RetrievalError, match="was altered"):
        LexicalIndex.load(tmp_path, expect_kb="kb")
    save_file(load_file(path), path)
    with pytest.raises(RetrievalError, match="cannot be read"):
        LexicalIndex.load(tmp_path, expect_kb="kb")
