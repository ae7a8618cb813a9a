import pytest

from models.dialogue.data.records import Entity
from models.dialogue.retrieval.entity_text import context_text, entity_text

ENTITY = Entity("7", "hotel", {"name": "Worth House", "price_range": "cheap", "area": "north", "address": "152, chesterton rd"})


def test_entity_is_its_pairs_with_the_name_first() -> None:
    assert entity_text(ENTITY) == "name Worth House ; price range cheap ; area north ; address 152, chesterton rd"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (("area", "price_range"), "name Worth House ; area north ; price range cheap"),
        (("area", "name"), "name Worth House ; area north"),
        (("stars",), "name Worth House"),
        ((), "name Worth House"),
    ],
)
def test_attributes_choose_and_order_but_never_drop_the_name(attributes: tuple[str, ...], expected: str) -> None:
    assert entity_text(ENTITY, attributes=attributes) == expected


def test_domain_follows_the_name() -> None:
    assert entity_text(ENTITY, attributes=("area",), domain=True) == "name Worth House ; domain hotel ; area north"


def test_normalised_entity() -> None:
    assert entity_text(ENTITY, attributes=("address",), normalised=True) == "name worth house ; address 152 chesterton rd"


def test_entity_without_attributes_is_empty() -> None:
    assert entity_text(Entity("1", "hotel", {})) == ""


def test_context_marks_roles_from_the_end() -> None:
    context = ["hi", "hello , who ?", "me"]
    assert context_text(context, role_marks=True) == "user hi ; system hello , who ? ; user me"
    assert context_text(context, role_marks=True, max_utterances=2) == "system hello , who ? ; user me"
    assert context_text(context, normalised=True) == "hi ; hello who ; me"
    assert context_text([], role_marks=True) == ""
