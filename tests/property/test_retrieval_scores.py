"""Properties of the ranks behind recall and MRR."""

import random

from hypothesis import given
from hypothesis import strategies as st

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.dialogue.train.recall_rule import RecallRule
from models.evaluation.dialogue.retrieval_scores import RetrievalRow, score_retrieval

NUM = 8
KB = KnowledgeBase(
    Entity(f"e{i}", "ab"[i % 2], {"name": f"name {i}", "area": ("north", "south")[i % 2], "food": f"f {i % 3}"})
    for i in range(NUM)
)
VALUES = [*sorted({v for e in KB.entities for v in e.attributes.values()}), "unknown", "9"]


def make_turn(number: int, values: list[str], entities: list[str], first: bool) -> Turn:
    named = {"gold_values": tuple(values), "gold_entities": tuple(entities), "first_mention": first}
    return Turn(f"t{number}", f"d{number % 3}", 0, "ab"[number % 2], ("hello",), "there", **named)  # type: ignore[arg-type]


turn = st.builds(
    make_turn,
    st.integers(0, 9),
    st.lists(st.sampled_from(VALUES), max_size=4),
    st.lists(st.sampled_from([e.id for e in KB.entities]), max_size=3, unique=True),
    st.booleans(),
)
asked = st.lists(st.tuples(turn, st.permutations(range(NUM))), min_size=1, max_size=8)


def score(pairs: list[tuple[Turn, list[int]]], ks: tuple[int, ...]) -> list[RetrievalRow]:
    turns, hits = zip(*pairs, strict=True)
    return list(score_retrieval(turns, hits, KB, recall_at=ks, value_attributes=None))


@given(asked)
def test_the_whole_knowledge_base_satisfies_every_turn(pairs: list[tuple[Turn, list[int]]]) -> None:
    for row in score(pairs, tuple(range(1, NUM + 1))):
        assert not row.num_values or 1 <= (row.value_rank or 0) <= NUM
        assert not row.num_entities or 1 <= (row.id_rank or 0) <= NUM


@given(asked, st.integers(1, NUM), st.randoms(use_true_random=False))
def test_entities_behind_k_do_not_matter(pairs: list[tuple[Turn, list[int]]], k: int, rng: random.Random) -> None:
    mixed = [(t, hits[:k] + rng.sample(hits[k:], NUM - k)) for t, hits in pairs]
    assert score(pairs, (k,)) == score(mixed, (k,))


@given(asked, st.integers(1, NUM), st.randoms(use_true_random=False))
def test_order_within_k_does_not_matter_to_recall_at_k(pairs: list[tuple[Turn, list[int]]], k: int, rng: random.Random) -> None:
    mixed = [(t, rng.sample(hits[:k], k) + hits[k:]) for t, hits in pairs]
    found = [[(r.value_rank is None, r.id_rank is None) for r in score(some, (k,))] for some in (pairs, mixed)]
    assert found[0] == found[1]


@given(asked)
def test_training_and_evaluation_use_the_same_rule(pairs: list[tuple[Turn, list[int]]]) -> None:
    rule = RecallRule(KB)
    for (t, hits), row in zip(pairs, score(pairs, (NUM,)), strict=True):
        if t.gold_values:
            # Where nothing is to be found, training says 0 and evaluation 1: a hit at every k.
            assert max(1, rule.value_rank(t, hits) or 0) == row.value_rank
        if t.gold_entities:
            assert rule.id_rank(t, hits) == row.id_rank
