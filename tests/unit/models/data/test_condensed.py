import pytest

from models.data.condensed import fill_up
from models.data.dialogue import Entity
from models.data.knowledge_base import KnowledgeBase
from models.data.pseudo_positive import ValueIndex


@pytest.fixture
def index() -> ValueIndex:
    areas, foods = ("north", "south"), ("thai", "pies", "soup")
    rows = [
        Entity(f"e{i}", ("bar", "inn")[i % 2], {"name": f"place {i}", "area": areas[i // 2 % 2], "food": foods[i % 3]})
        for i in range(24)
    ]
    return ValueIndex(KnowledgeBase(rows))


def test_what_belongs_in_is_kept_and_cut_at_the_size(index: ValueIndex) -> None:
    assert fill_up([5, 3, 5, 9], index, size=3, like=[], key="d") == [3, 5, 9]
    assert fill_up([9, 5, 3, 1], index, size=2, like=[], key="d") == [5, 9]


def test_those_that_share_most_values_fill_up(index: ValueIndex) -> None:
    rows = fill_up([0], index, size=5, like=["thai food in the south"], key="d")
    best = {row for row, e in enumerate(index.kb.entities) if (e.attributes["area"], e.attributes["food"]) == ("south", "thai")}
    assert len(best) == 4
    assert set(rows) == best | {0}
    assert rows == sorted(rows)


def test_equals_differ_between_dialogues_but_not_between_runs(index: ValueIndex) -> None:
    made = {tuple(fill_up([], index, size=4, like=["thai"], key=f"d{i}")) for i in range(10)}
    assert len(made) > 3
    assert fill_up([], index, size=4, like=["thai"], key="d1") == fill_up([], index, size=4, like=["thai"], key="d1")


def test_only_the_domain_fills_up(index: ValueIndex) -> None:
    assert {index.kb[row].domain for row in fill_up([1], index, size=6, like=["thai"], key="d", domain="inn")} == {"inn"}


def test_a_small_knowledge_base_gives_what_it_has(index: ValueIndex) -> None:
    assert fill_up([], index, size=99, like=[], key="d") == list(range(24))
