from typing import Any

import pytest

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.data.mentions import with_mentions
from models.data.pseudo_positive import ValueIndex


def entity(id: str, name: str, **attributes: str) -> Entity:
    return Entity(id, "restaurant", {"name": name, **attributes})


@pytest.fixture
def index() -> ValueIndex:
    rows = [
        entity("hut", "pizza hut", area="south", food="italian", phone="323738"),
        entity("gandhi", "the gandhi", area="centre", food="indian", phone="353942"),
        entity("meze", "meze", area="north", food="turkish", phone="000002"),
        entity("jon", "dinner", time="5pm", party="jon"),
        entity("ana", "dinner", time="7pm", party="ana"),
    ]
    return ValueIndex(KnowledgeBase(rows))


def found(index: ValueIndex, response: str, *context: str, kind: Any = "response", **options: Any) -> tuple[Any, bool]:
    turn = Turn(id="d#0", dialogue="d", turn=0, domain="x", context=context, response=response, kind=kind)
    made = with_mentions(turn, index, **options)
    return made.gold_entities, made.first_mention


def test_the_named_entities_are_meant_in_the_order_of_the_knowledge_base(index: ValueIndex) -> None:
    assert found(index, "meze and pizza hut are nice", "hello") == (("hut", "meze"), True)


def test_a_first_mention_is_of_a_name_that_the_context_lacks(index: ValueIndex) -> None:
    assert found(index, "meze is in the north", "is meze open ?") == (("meze",), False)
    assert found(index, "meze and gandhi", "is meze open ?") == (("gandhi", "meze"), True)
    assert found(index, "the number is 000002", "hello") == (("meze",), False)


def test_values_without_a_name_are_those_of_the_one_entity_that_was_named(index: ValueIndex) -> None:
    assert found(index, "it is in the south", "is pizza hut or meze nearer ?") == (("hut",), False)
    assert found(index, "it is turkish , in the north", "pizza hut , meze") == (("meze",), False)


def test_where_two_named_entities_have_the_values_none_is_known(index: ValueIndex) -> None:
    assert found(index, "5pm and 7pm", "when is dinner ?") == ((), False)
    assert found(index, "south or north ?", "pizza hut or meze ?") == ((), False)


def test_a_value_of_its_own_tells_the_entity_although_nothing_was_named(index: ValueIndex) -> None:
    assert found(index, "call 353942", "i want indian food") == (("gandhi",), False)
    assert found(index, "353942 or 000002", "i want food") == ((), False)


def test_common_values_tell_nothing(index: ValueIndex) -> None:
    assert found(index, "which area ?", "meze")[0] == ()


def test_of_entities_with_one_name_the_values_decide(index: ValueIndex) -> None:
    assert found(index, "dinner with ana", "hello") == (("ana",), True)
    assert found(index, "dinner is on", "is it at 5 pm ?") == (("jon",), True)
    assert found(index, "dinner is on", "hello") == (("jon", "ana"), True)


def test_only_the_dialogues_own_rows_count(index: ValueIndex) -> None:
    assert found(index, "dinner with ana", "hello", rows=[3]) == (("jon",), True)
    assert found(index, "meze", "hello", rows=[0, 1]) == ((), False)
    assert found(index, "meze is in the south", "pizza hut", rows=[0, 1]) == (("hut",), False)
    assert found(index, "meze", "hello", rows=[]) == ((), False)


def test_an_api_query_speaks_of_no_entity(index: ValueIndex) -> None:
    assert found(index, "api call meze", "hello", kind="api_call") == ((), False)
