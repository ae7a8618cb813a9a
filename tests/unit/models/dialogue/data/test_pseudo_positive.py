import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.corpus.text import normalise
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive, seen_in_context
from models.dialogue.data.records import MISSING, Entity, Turn

CAMREST = Path("data/external/tod/camrest/derived")


def entity(name: str, **attributes: str) -> Entity:
    return Entity(name, "restaurant", {"name": name, **attributes})


ROWS = (
    entity("pizza hut city centre", area="centre", food="italian", phone="01223 323737"),
    entity("pizza hut", area="south", food="italian", phone="01223 323738"),
    entity("the gandhi", area="centre", food="indian", phone="01223 353942"),
    entity("the place", area="north", food="cuban", phone="01223 000001"),
    entity("meze", area="north", food="turkish", phone="01223 000002", takeaway="yes"),
)


@pytest.fixture
def index() -> ValueIndex:
    return ValueIndex(KnowledgeBase(ROWS))


def turn(response: str, *context: str, kind: Any = "response") -> Turn:
    return Turn(id="d#0", dialogue="d", turn=0, domain="restaurant", context=context, response=response, kind=kind)


def test_a_name_in_the_response_comes_first(index: ValueIndex) -> None:
    # `meze` shares two values with the response, `the gandhi` is named in it.
    assert pseudo_positive(turn("gandhi is not in the north and not turkish"), index) == 2
    assert pseudo_positive(turn("the gandhi is not in the north and not turkish"), index) == 2


def test_then_most_values_in_the_response(index: ValueIndex) -> None:
    assert pseudo_positive(turn("it is italian and in the south", "pizza hut city centre in the centre"), index) == 1


def test_then_the_name_in_the_context_then_most_values_there(index: ValueIndex) -> None:
    assert pseudo_positive(turn("it is in the north", "i like meze"), index) == 4
    assert pseudo_positive(turn("it is in the north", "turkish food please"), index) == 4
    assert pseudo_positive(turn("it is in the north", "cuban food please"), index) == 3


def test_the_first_row_wins_a_tie(index: ValueIndex) -> None:
    assert pseudo_positive(turn("something italian"), index) == 0
    assert pseudo_positive(turn("something italian"), index, rows=[2, 1, 0]) == 1


def test_only_the_rows_given_are_chosen_from(index: ValueIndex) -> None:
    assert pseudo_positive(turn("meze is turkish"), index, rows=[0, 1, 2]) is None
    assert pseudo_positive(turn("meze is in the centre"), index, rows=[1, 2]) == 2
    assert pseudo_positive(turn("meze"), index, rows=[]) is None


def test_no_value_no_entity(index: ValueIndex) -> None:
    assert pseudo_positive(turn("which area would you like ?", "meze in the north"), index) is None
    assert pseudo_positive(turn("api call italian south dontcare", kind="api_call"), index) is None


def test_yes_and_no_are_no_values(index: ValueIndex) -> None:
    assert pseudo_positive(turn("yes , it does ."), index) is None


def test_a_name_within_a_longer_name_is_not_said(index: ValueIndex) -> None:
    names = index.names_in("try pizza hut city centre")
    assert index.named(np.arange(5), names).tolist() == [True, False, False, False, False]
    assert pseudo_positive(turn("pizza hut city centre is in the south"), index) == 0


def test_a_value_may_stand_twice_in_an_entity_and_counts_once() -> None:
    kb = KnowledgeBase([entity("a", type="bar", food="bar"), entity("b", type="bar", food="thai")])
    assert ValueIndex(kb).hits(np.array([0, 1]), ValueIndex(kb).values_in("a thai bar")).tolist() == [2, 2]


def test_a_value_across_two_utterances_is_not_said(index: ValueIndex) -> None:
    assert len(index.values_in("pizza", "hut")) == 0
    assert len(index.values_in("pizza hut")) == 1


def test_unique_values_belong_to_one_name_and_tell_entities_apart(index: ValueIndex) -> None:
    names = {row.attributes["name"] for row in ROWS}
    phones = {row.attributes["phone"] for row in ROWS}
    # Three of five have a food of their own: enough in so small a knowledge base.
    assert index.unique_values == names | phones | {"indian", "cuban", "turkish"}
    wide = ValueIndex(KnowledgeBase([*ROWS, *(entity(f"more {i}", food="thai", phone=str(i)) for i in range(10))]))
    assert "cuban" not in wide.unique_values
    assert "01223 000001" in wide.unique_values


def test_an_entity_is_seen_by_name_or_by_a_value_of_its_own(index: ValueIndex) -> None:
    def seen(text: str) -> list[str]:
        return [row.name for row in ROWS if seen_in_context(row, normalise(text), index)]

    assert seen("Is Meze open?") == ["meze"]
    assert seen("Gandhi, please") == ["the gandhi"]
    assert seen("a place in the centre") == []
    assert seen("I was at The Place") == ["the place"]
    assert seen("Call 01223 323738!") == ["pizza hut"]
    assert seen("in the south, italian") == []


def test_a_value_of_rows_with_the_same_name_is_still_their_own() -> None:
    """As in SMD, where the same place stands in many sessions."""
    rows = [Entity(f"{d}/0", "navigate", {"poi": "valero", "address": "200 alester ave", "distance": d}) for d in ("1", "2")]
    index = ValueIndex(KnowledgeBase([*rows, Entity("x", "navigate", {"poi": "coupa", "address": "9 a st", "distance": "1"})]))
    assert "200 alester ave" in index.unique_values
    assert "1" not in index.unique_values


def test_rows_named_come_in_the_order_of_the_texts(index: ValueIndex) -> None:
    assert index.rows_named(["meze or the gandhi ?", "pizza hut or meze"]) == [4, 2, 1]


def test_an_empty_knowledge_base_has_nothing() -> None:
    index = ValueIndex(KnowledgeBase([]))
    assert pseudo_positive(turn("meze"), index) is None
    assert index.unique_values == frozenset()


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_derived_files_of_camrest_are_reproduced(split: str) -> None:
    if not CAMREST.is_dir():
        pytest.skip("data/external/tod/camrest is not there")
    rows = json.loads((CAMREST / "kb_global.json").read_text())
    kb = [Entity(str(r.pop("id")), "restaurant", {k: v for k, v in r.items() if v not in MISSING}) for r in rows]
    index = ValueIndex(KnowledgeBase(kb))
    with gzip.open(CAMREST / f"{split}.jsonl.gz", "rt") as lines:
        turns = [json.loads(line) for line in lines]
    differ = []
    for t in turns:
        made = turn(t["response"], *t["context"], kind=t["kind"])
        found = pseudo_positive(made, index, rows=t["kb"]), pseudo_positive(made, index)
        if found != (t["pos"], t["pos_global"]):
            differ.append(t["response"])
    # The derived files also count the name `nandos` within `nandos city centre`.
    assert all("nandos city centre" in response for response in differ)
    assert len(differ) <= 1
