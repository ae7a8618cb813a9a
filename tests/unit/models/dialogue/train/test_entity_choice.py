import numpy as np
import pytest
from support import dialogue_parts as parts

from models.dialogue.retrieval.embedding import embed_contexts
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.ranking import Hits
from models.dialogue.train.entity_choice import negative_rows, with_positives
from models.params.index import IndexParams


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


# Scores of query 0: rows 0…5 descending; of query 1: ascending.
ANGLES = np.linspace(0, np.pi, 6)
REPS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
INDEX = EntityIndex.build(IndexParams(), REPS, ids=np.arange(6), encoder_digest="e", kb_digest="k")
QUERIES = np.array([[1, 0], [-1, 0]], np.float32)
SEEDS = [(1, 0), (1, 1)]


def rows(kind, *, retrieved, within=None, wider=None, seeds=SEEDS):
    return negative_rows(kind, INDEX, QUERIES, retrieved=retrieved, wider=wider, within=within, seeds=seeds)


def test_lowest_of_the_knowledge_base_or_session():
    assert rows("lowest", retrieved=[[0, 1], [5, 4]]) == [5, 0]
    assert rows("lowest", retrieved=[[0], [4]], within=[[0, 2, 3], [1, 4]]) == [3, 1]


def test_next_rank():
    wider = Hits(np.array([[0, 1, 2], [5, -1, -1]]), np.zeros((2, 3), np.float32), np.array([3, 1]))
    found = rows("next_rank", retrieved=[[0, 1], [5]], wider=wider, within=[[0, 1, 2], [5]])
    assert found[0] == 2
    assert found[1] != 5  # the session has no third one: drawn from elsewhere


def test_random_is_even_over_what_is_left_and_follows_the_seed():
    drawn = [rows("random", retrieved=[[0, 2], [1]], seeds=[(s, 0), (s, 1)]) for s in range(300)]
    assert {a for a, _ in drawn} == {1, 3, 4, 5} and {b for _, b in drawn} == {0, 2, 3, 4, 5}
    counts = np.bincount([a for a, _ in drawn], minlength=6)
    assert counts[[1, 3, 4, 5]].min() > 40
    assert rows("random", retrieved=[[0, 2], [1]]) == rows("random", retrieved=[[0, 2], [1]])
    inside = {a for s in range(60) for a in rows("random", retrieved=[[0], [1]], within=[[0, 2, 4], [1, 5]], seeds=[(s,), (s,)])}
    assert inside == {2, 4, 5}


@pytest.mark.parametrize("kind", ["lowest", "next_rank", "random"])
def test_exhausted_session_draws_from_elsewhere(kind):
    wider = Hits(np.array([[0, 1], [4, 5]]), np.zeros((2, 2), np.float32), np.array([2, 2]))
    found = rows(kind, retrieved=[[0, 1], [4, 5]], within=[[0, 1], [4, 5]], wider=wider)
    assert found[0] in {2, 3, 4, 5} and found[1] in {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["lowest", "next_rank", "random"])
def test_exhausted_knowledge_base_gives_none(kind):
    everything = [[0, 1, 2, 3, 4, 5]] * 2
    wider = Hits(np.array(everything), np.zeros((2, 6), np.float32), np.array([6, 6]))
    assert rows(kind, retrieved=everything, wider=wider) == [None, None]


def test_none():
    assert rows("none", retrieved=[[0], [1]]) == [None, None]
