import random

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.dialogue.train.recall_rule import RecallRule
from models.evaluation.dialogue.retrieval_scores import score_retrieval

KB = KnowledgeBase(
    [
        Entity("a", "restaurant", {"name": "rice boat", "area": "west", "postcode": "cb3 9ab", "stars": "4"}),
        Entity("b", "restaurant", {"name": "curry house", "area": "north", "price": "cheap"}),
        Entity("c", "restaurant", {"name": "golden wok", "area": "north"}),
    ]
)
RULE = RecallRule(KB)


def turn(*values, entities=(), **options):
    return Turn("d#0", "d", 0, "restaurant", ("hi",), "x", gold_values=values, gold_entities=entities, **options)


@pytest.mark.parametrize(
    ("values", "rows", "rank"),
    [
        (("north",), [0, 1, 2], 2),
        (("north", "rice boat"), [0, 1, 2], 2),  # from different rows: the rule is lenient
        (("cheap", "golden wok"), [2, 0, 1], 3),
        (("CB39AB",), [0], 1),  # without blanks
        (("cheap",), [0, 2], None),
        (("reference9",), [0], 0),  # no KB value
        ((), [], 0),
    ],
)
def test_rank_by_value(values, rows, rank):
    assert RULE.value_rank(turn(*values), rows) == rank


def test_dynamic_values_are_free():
    assert RULE.value_rank(turn("4", "north"), [1]) is None
    assert RULE.value_rank(turn("4", "north", dynamic={"choice": ("4",)}), [1]) == 1


def test_rank_by_id():
    named = turn(entities=("c", "a"))
    assert RULE.id_rank(named, [0, 1, 2]) == 3
    assert RULE.id_rank(named, [0, 2, 1]) == 2
    assert RULE.id_rank(named, [0, 1]) is None


def test_the_rule_of_training_is_that_of_the_evaluation():
    """The evaluation has it apart, with more to report; both must agree on every hit."""
    rng = random.Random(0)
    pool = [value for entity in KB.entities for value in entity.attributes.values()] + ["no such value"]
    for _ in range(200):
        ids = tuple(rng.sample("abc", rng.randrange(3)))
        dynamic = {"choice": (rng.choice(pool),)} if rng.random() < 0.3 else {}
        asked = turn(*rng.sample(pool, rng.randrange(4)), entities=ids, dynamic=dynamic)
        rows = rng.sample(range(3), 3)
        (row,) = score_retrieval([asked], [rows], KB, recall_at=(1, 2, 3), value_attributes=None)
        for k in (1, 2, 3):
            if row.num_values:
                assert (RULE.value_rank(asked, rows[:k]) is not None) == (row.value_rank is not None and row.value_rank <= k)
            if row.num_entities:
                assert (RULE.id_rank(asked, rows[:k]) is not None) == (row.id_rank is not None and row.id_rank <= k)
