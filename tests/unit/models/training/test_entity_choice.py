import importlib.util
from pathlib import Path

import numpy as np
import pytest

from models.retrieval.embedding import embed_contexts
from models.retrieval.hits import Hits
from models.training.entity_choice import with_positives

_spec = importlib.util.spec_from_file_location("dialogue_parts", Path(__file__).with_name("dialogue_parts.py"))
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return parts.make_folders(tmp_path_factory.mktemp("town"))


def choose(made, contexts, *, within=None):
    q_reps = embed_contexts(made.retriever, contexts)
    seeds = [(0, b) for b in range(len(contexts))]
    return q_reps, made.chooser.choose(made.refresher.index, q_reps, contexts=contexts, within=within, seeds=seeds)


def test_best_first_and_the_negative_last(folders):
    made = parts.make_parts(folders, k=3)
    contexts = [["thai food in the north"], ["tell me about the castle"]]
    q_reps, choice = choose(made, contexts)
    dense = q_reps @ made.refresher.index.reconstruct(np.arange(12)).T
    for b in range(2):
        order = np.argsort(-dense[b], kind="stable")
        assert choice.rows[b].tolist() == [*order[:3], order[-1]]
        np.testing.assert_allclose(choice.scores[b], dense[b][choice.rows[b]], atol=1e-5)
    assert choice.negative.tolist() == [[False, False, False, True]] * 2


def test_passages_carry_meta_knowledge_and_name(folders):
    made = parts.make_parts(folders, k=3)
    _, choice = choose(made, [["tell me about the castle"]])
    texts = [made.generator.tokenizer.decode(ids) for ids in choice.passages[0]]
    names = [made.data.kb[int(row)].name for row in choice.rows[0]]
    assert all(name in text for name, text in zip(names, texts, strict=True))
    assert "top-1 recalled" in texts[0] and "top-3 recalled" in texts[2]
    assert "negative entity recalled" in texts[3] and "low confidence" in texts[3] and "newly recalled" in texts[3]
    for name, text in zip(names[:3], texts[:3], strict=True):
        assert ("existed in history" in text) == (name == "castle")


def test_sessions_bound_the_choice(folders):
    made = parts.make_parts(folders, k=3)
    sessions = [[1, 4, 7, 9], [5, 2], []]
    _, choice = choose(made, [["thai"], ["greek"], ["welsh"]], within=sessions)
    assert set(choice.rows[0].tolist()) == {1, 4, 7, 9}
    assert set(choice.rows[1, :2].tolist()) == {5, 2} and choice.rows[1, 2] not in {5, 2, -1} and choice.rows[1, 3] == -1
    assert choice.negative[1].tolist() == [False, False, True, False]
    assert choice.rows[2, 0] >= 0 and choice.negative[2, 0] and [len(p) for p in choice.passages] == [4, 3, 1]


def test_without_a_negative(folders):
    made = parts.make_parts(folders, k=2, negative_entity="none")
    _, choice = choose(made, [["thai"], ["greek"]], within=[[3], []])
    assert choice.rows.tolist() == [[3], [-1]] and not choice.negative.any() and choice.scores[1, 0] == 0


def test_a_positive_that_was_not_retrieved_takes_a_place_by_lot():
    rows = np.array([[4, 2, 7]] * 400)
    hits = Hits(rows, np.tile(np.float32([0.9, 0.5, 0.1]), (400, 1)), np.full(400, 3))
    seeds = [(0, 5, b) for b in range(400)]
    changed = with_positives(hits, [9] * 399 + [None], seeds=seeds)
    places = np.argwhere(changed.rows == 9)[:, 1]
    assert len(places) == 399 and np.bincount(places, minlength=3).min() > 100
    assert changed.rows[399].tolist() == [4, 2, 7] and (changed.scores == hits.scores).all()
    assert (rows == [4, 2, 7]).all(), "the hits of the index were changed"
    np.testing.assert_array_equal(with_positives(hits, [9] * 399 + [None], seeds=seeds).rows, changed.rows)


def test_a_retrieved_positive_and_an_empty_session_change_nothing():
    hits = Hits(np.array([[4, 2], [-1, -1]]), np.zeros((2, 2), np.float32), np.array([2, 0]))
    assert with_positives(hits, [2, 5], seeds=[(0,), (1,)]).rows.tolist() == [[4, 2], [-1, -1]]
