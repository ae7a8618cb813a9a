import pytest

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.retrieval.recall_rule import RecallRule, id_hit, value_hit

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


def test_turns_without_gold_are_not_counted():
    assert value_hit(turn(entities=("a",)), [], RULE) is None and id_hit(turn("north"), [], RULE) is None
    assert value_hit(turn("north"), [0], RULE) is False and value_hit(turn("north"), [2], RULE) is True
    assert id_hit(turn(entities=("a",)), [0], RULE) is True
