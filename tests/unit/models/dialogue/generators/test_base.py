from dataclasses import fields

from models.dialogue.data.records import Turn
from models.dialogue.generators.base import Answer, DialogueItem, PromptCuts, total_cuts

TURN = Turn(
    id="d7#2",
    dialogue="d7",
    turn=2,
    domain="hotel",
    context=("hello", "hi", "a cheap hotel"),
    response="try the lensfield",
    gold_values=("lensfield",),
    gold_entities=("e1",),
    kb=("e1", "e2"),
    dynamic={"choice": ("3",)},
)


def test_an_item_knows_nothing_of_the_reference():
    item = DialogueItem.of(TURN, ())
    assert {f.name for f in fields(item)} == {"id", "domain", "context", "entities", "dynamic"}
    assert "lensfield" not in repr(item) and "e1" not in repr(item)
    assert item == DialogueItem("d7#2", "hotel", ("hello", "hi", "a cheap hotel"), (), {"choice": ("3",)})
    assert item.dialogue == "d7" and DialogueItem("", "", ("x",), ()).dialogue == ""


def test_cuts_add_up():
    one, two = PromptCuts(demonstrations=1, words=4), PromptCuts(entities=2, words=1)
    answers = [Answer("a", 1, 1, "eos", one), Answer("b", 1, 1, "eos"), Answer("c", 1, 1, "eos", two)]
    assert total_cuts(answers) == PromptCuts(demonstrations=1, entities=2, words=5)
    assert not total_cuts([]) and total_cuts(answers)
