from typing import Any

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import pad_with_distractors, with_mentions
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity, Turn


@pytest.fixture
def index() -> ValueIndex:
    areas, foods = ("north", "south"), ("thai", "pies", "soup")
    rows = [
        Entity(f"e{i}", ("bar", "inn")[i % 2], {"name": f"place {i}", "area": areas[i // 2 % 2], "food": foods[i % 3]})
        for i in range(24)
    ]
    return ValueIndex(KnowledgeBase(rows))


def test_what_belongs_in_is_kept_and_cut_at_the_size(index: ValueIndex) -> None:
    assert pad_with_distractors([5, 3, 5, 9], index, size=3, like=[], key="d") == [3, 5, 9]
    assert pad_with_distractors([9, 5, 3, 1], index, size=2, like=[], key="d") == [5, 9]


def test_those_that_share_most_values_fill_up(index: ValueIndex) -> None:
    rows = pad_with_distractors([0], index, size=5, like=["thai food in the south"], key="d")
    best = {row for row, e in enumerate(index.kb.entities) if (e.attributes["area"], e.attributes["food"]) == ("south", "thai")}
    assert len(best) == 4
    assert set(rows) == best | {0}
    assert rows == sorted(rows)


def test_equals_differ_between_dialogues_but_not_between_runs(index: ValueIndex) -> None:
    made = {tuple(pad_with_distractors([], index, size=4, like=["thai"], key=f"d{i}")) for i in range(10)}
    assert len(made) > 3
    assert pad_with_distractors([], index, size=4, like=["thai"], key="d1") == pad_with_distractors(
        [], index, size=4, like=["thai"], key="d1"
    )


def test_only_the_domain_fills_up(index: ValueIndex) -> None:
    assert {index.kb[row].domain for row in pad_with_distractors([1], index, size=6, like=["thai"], key="d", domain="inn")} == {
        "inn"
    }


def test_a_small_knowledge_base_gives_what_it_has(index: ValueIndex) -> None:
    assert pad_with_distractors([], index, size=99, like=[], key="d") == list(range(24))


def entity(id: str, name: str, **attributes: str) -> Entity:
    return Entity(id, "restaurant", {"name": name, **attributes})


@pytest.fixture
def value_index() -> ValueIndex:
    rows = [
        entity("hut", "pizza hut", area="south", food="italian", phone="323738"),
        entity("gandhi", "the gandhi", area="centre", food="indian", phone="353942"),
        entity("meze", "meze", area="north", food="turkish", phone="000002"),
        entity("jon", "dinner", time="5pm", chat_tokenizer="jon"),
        entity("ana", "dinner", time="7pm", chat_tokenizer="ana"),
    ]
    return ValueIndex(KnowledgeBase(rows))


def found(value_index: ValueIndex, response: str, *context: str, kind: Any = "response", **options: Any) -> tuple[Any, bool]:
    turn = Turn(id="d#0", dialogue="d", turn=0, domain="x", context=context, response=response, kind=kind)
    made = with_mentions(turn, value_index, **options)
    return made.gold_entities, made.first_mention


def test_the_named_entities_are_meant_in_the_order_of_the_knowledge_base(value_index: ValueIndex) -> None:
    assert found(value_index, "meze and pizza hut are nice", "hello") == (("hut", "meze"), True)


def test_a_first_mention_is_of_a_name_that_the_context_lacks(value_index: ValueIndex) -> None:
    assert found(value_index, "meze is in the north", "is meze open ?") == (("meze",), False)
    assert found(value_index, "meze and gandhi", "is meze open ?") == (("gandhi", "meze"), True)
    assert found(value_index, "the number is 000002", "hello") == (("meze",), False)


def test_values_without_a_name_are_those_of_the_one_entity_that_was_named(value_index: ValueIndex) -> None:
    assert found(value_index, "it is in the south", "is pizza hut or meze nearer ?") == (("hut",), False)
    assert found(value_index, "it is turkish , in the north", "pizza hut , meze") == (("meze",), False)


def test_where_two_named_entities_have_the_values_none_is_known(value_index: ValueIndex) -> None:
    assert found(value_index, "5pm and 7pm", "when is dinner ?") == ((), False)
    assert found(value_index, "south or north ?", "pizza hut or meze ?") == ((), False)


def test_a_value_of_its_own_tells_the_entity_although_nothing_was_named(value_index: ValueIndex) -> None:
    assert found(value_index, "call 353942", "i want indian food") == (("gandhi",), False)
    assert found(value_index, "353942 or 000002", "i want food") == ((), False)


def test_common_values_tell_nothing(value_index: ValueIndex) -> None:
    assert found(value_index, "which area ?", "meze")[0] == ()


def test_of_entities_with_one_name_the_values_decide(value_index: ValueIndex) -> None:
    assert found(value_index, "dinner with ana", "hello") == (("ana",), True)
    assert found(value_index, "dinner is on", "is it at 5 pm ?") == (("jon",), True)
    assert found(value_index, "dinner is on", "hello") == (("jon", "ana"), True)


def test_only_the_dialogues_own_rows_count(value_index: ValueIndex) -> None:
    assert found(value_index, "dinner with ana", "hello", rows=[3]) == (("jon",), True)
    assert found(value_index, "meze", "hello", rows=[0, 1]) == ((), False)
    assert found(value_index, "meze is in the south", "pizza hut", rows=[0, 1]) == (("hut",), False)
    assert found(value_index, "meze", "hello", rows=[]) == ((), False)


def test_an_api_query_speaks_of_no_entity(value_index: ValueIndex) -> None:
    assert found(value_index, "api call meze", "hello", kind="api_call") == ((), False)
