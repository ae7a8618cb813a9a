import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.corpus.fields import BadRecord
from models.dialogue.data.knowledge_base import KbChanges, apply_changes, changed_attributes
from models.dialogue.data.records import Entity
from models.errors import DataError


def entity(id_: str, name: str = "x") -> Entity:
    return Entity(id_, "food", {"name": name})


HELD = [entity(i) for i in "abc"]


def test_changed_entities_keep_their_place_and_new_ones_come_last():
    changes = KbChanges(add=(entity("d"),), update=(entity("b", "y"),), remove=("a",))
    assert len(changes) == 3
    assert [(e.id, e.name) for e in apply_changes(HELD, changes)] == [("b", "y"), ("c", "x"), ("d", "x")]


@pytest.mark.parametrize(
    "changes",
    [
        KbChanges(add=(entity("a"),)),
        KbChanges(add=(entity("d"), entity("d"))),
        KbChanges(update=(entity("d"),)),
        KbChanges(update=(entity("a"), entity("a"))),
        KbChanges(update=(entity("a"),), remove=("a",)),
        KbChanges(remove=("d",)),
        KbChanges(remove=("a", "a")),
        KbChanges(remove=("a", "b", "c")),
        KbChanges(add=(Entity("d", "food", {}),)),
        KbChanges(update=(entity("a", ""),)),
    ],
)
def test_changes_that_do_not_fit_are_refused_whole(changes):
    with pytest.raises(DataError, match="cannot be changed so"):
        apply_changes(HELD, changes)


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sets(st.sampled_from("abcdefgh")))
def test_changes_lead_from_one_set_of_ids_to_another(before, after):
    changes = KbChanges(add=tuple(map(entity, sorted(after - before))), remove=tuple(before - after))
    if after:
        assert {e.id for e in apply_changes([entity(i) for i in before], changes)} == after


def test_the_values_of_a_request_are_those_of_the_readers():
    row = {" Name": "The New_Inn", "seats": 40.0, "phone": float("nan"), "area": "N/A", "open": True, "fax": None}
    assert changed_attributes(row) == {"name": "the new inn", "seats": "40", "open": "yes"}


@pytest.mark.parametrize(
    "row",
    [
        {},
        [],
        "name",
        {"name": None, "area": "north"},
        {"name": "n/a", "area": "north"},
        {"name": True},
        {"name": "a", "NAME": "b"},
        {"name": "a", "x": []},
        {"": "a"},
        {"name": "a", " ": "b"},
        {"name": "a \ud83d"},
    ],
)
def test_an_entity_without_a_name_or_with_odd_values_is_refused(row):
    with pytest.raises(BadRecord, match="must have"):
        changed_attributes(row)
