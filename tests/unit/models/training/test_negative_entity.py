import numpy as np
import pytest

from models.params.index import IndexParams
from models.retrieval.faiss_index import EntityIndex
from models.retrieval.hits import Hits
from models.training.negative_entity import negative_rows

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
