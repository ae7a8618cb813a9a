"""Negatives made up from the positive: one value that the context tells is another."""

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.train.warm_start.look_alikes import LookAlikes
from models.params.retriever import RetrieverParams, WarmStartParams

ROWS = (("the oak", "north", "thai"), ("elm", "south", "thai"), ("ash", "east", "greek"), ("fir", "north", "polish"))
KB = KnowledgeBase(
    [
        *(
            Entity(f"p{i}", "pub", {"name": name, "area": area, "food": food, "phone": f"5{i}"})
            for i, (name, area, food) in enumerate(ROWS)
        ),
        Entity("i0", "inn", {"name": "lodge", "area": "west"}),
    ]
)


def made(context: tuple[str, ...], *, row: int = 0, step: int = 0, num: int = 24, **changes: object) -> list[Entity]:
    cfg = RetrieverParams(warm_start=WarmStartParams(look_alikes=num)).model_copy(update=changes)
    return LookAlikes(KB, cfg).at(step, [row], [context])[0]


def changed(entities: list[Entity], row: int = 0) -> set[tuple[str, str]]:
    found = set()
    for entity in entities:
        assert list(entity.attributes) == list(KB[row].attributes) and entity.domain == KB[row].domain
        (pair,) = entity.attributes.items() - KB[row].attributes.items()
        found.add(pair)
    return found


def test_one_value_that_the_user_asked_for_is_another() -> None:
    assert changed(made(("something in the north",))) == {("area", "south"), ("area", "east")}
    both = {("area", "south"), ("area", "east"), ("food", "greek"), ("food", "polish")}
    assert changed(made(("thai food in the north",))) == both
    assert changed(made(("thai food in the north",), attributes=("food",))) == {("food", "greek"), ("food", "polish")}


def test_an_entity_that_was_named_has_look_alikes_of_other_names() -> None:
    named = {("name", "elm"), ("name", "ash"), ("name", "fir")}
    assert changed(made(("a pub ?", "the oak ?", "yes"))) == named
    assert changed(made(("what about oak ?",))) == named
    assert changed(made(("the oak or elm ?",))) == named - {("name", "elm")}


def test_what_the_context_leaves_open_is_not_changed() -> None:
    assert made(("hello",)) == []
    assert made(("in the north or the south",)) == []
    assert made(("in the west",), row=4) == []  # no other inn


def test_they_follow_from_the_step() -> None:
    context = ("thai food in the north",)
    assert made(context, step=3) == made(context, step=3) != made(context, step=4)
    assert len(made(context, num=2)) == 2 and made(context, num=0) == []
