"""The index finds what a plain search over all entities finds."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus.text import contains_words
from models.dialogue.data import pseudo_positive as pseudo_positives
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.value_finder import ValueFinder, matchable

# Few words, so that values meet, overlap and nest; no name stands within another.
WORDS = st.sampled_from(["red", "inn", "oak", "hut", "7", "pm", "north", "yes"])
VALUES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TEXTS = st.lists(st.one_of(WORDS, st.sampled_from(["name0", "name1", "name2", ",", "?"])), max_size=8).map(" ".join)


@st.composite
def entities(draw: st.DrawFn) -> list[Entity]:
    rows = draw(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3), max_size=6))
    names = [f"name{draw(st.integers(0, 3))}" for _ in rows]
    return [Entity(str(i), "x", {"name": name, **row}) for i, (name, row) in enumerate(zip(names, rows, strict=True))]


def plain_search(turn: Turn, rows: list[int], all_entities: list[Entity]) -> int | None:
    """The rule of App. D, word for word, over every entity."""

    def hits(row: int, *texts: str) -> int:
        values = {matchable(v) for v in all_entities[row].attributes.values()} - {"yes", "no"}
        return sum(any(contains_words(matchable(text), value) for text in texts) for value in values)

    def named(row: int, *texts: str) -> bool:
        return any(contains_words(matchable(text), all_entities[row].name) for text in texts)

    def key(row: int) -> tuple[bool, int, bool, int]:
        return named(row, turn.response), hits(row, turn.response), named(row, *turn.context), hits(row, *turn.context)

    found = [row for row in rows if hits(row, turn.response)]
    return max(found, key=key, default=None)


@pytest.mark.parametrize("common_from", [1, 2, 64])
@settings(max_examples=150, deadline=None)
@given(kb=entities(), context=st.lists(TEXTS, max_size=3), response=TEXTS)
def test_the_index_agrees_with_a_search_over_all_entities(
    common_from: int, kb: list[Entity], context: list[str], response: str
) -> None:
    turn = Turn(id="d#0", dialogue="d", turn=0, domain="x", context=tuple(context), response=response)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudo_positives, "_common_from", lambda num_rows: common_from)
        index = ValueIndex(KnowledgeBase(kb))
    every = list(range(len(kb)))
    assert pseudo_positive(turn, index) == plain_search(turn, every, kb)
    some = every[::-1][: len(every) // 2 + 1]
    assert pseudo_positive(turn, index, rows=some) == plain_search(turn, some, kb)


@settings(deadline=None)
@given(entities())
def test_unique_values_have_one_name(kb: list[Entity]) -> None:
    index = ValueIndex(KnowledgeBase(kb))
    owners: dict[str, set[str]] = {}
    for entity in kb:
        for value in entity.attributes.values():
            owners.setdefault(matchable(value), set()).add(entity.name)
    assert all(len(owners[value]) == 1 for value in index.unique_values)


@settings(deadline=None)
@given(st.sets(VALUES, max_size=8), TEXTS)
def test_the_finder_agrees_with_a_search_for_every_value(values: set[str], text: str) -> None:
    finder = ValueFinder()
    numbers = {finder.add(matchable(value)): matchable(value) for value in sorted(values)}
    found = {numbers[number] for *_, number in finder.spans(matchable(text))}
    assert found == {value for value in numbers.values() if contains_words(matchable(text), value)}
    kept = finder.longest_spans(matchable(text))
    assert all(a[1] <= b[0] for a, b in pairwise(kept)), "no overlap, in order"
    assert bool(kept) == bool(found)


def test_few_rows_are_looked_at_however_many_share_a_value() -> None:
    def town(num: int) -> list[Entity]:
        kinds = ({"area": ("north", "south")[i % 2], "food": f"food{i % 5}"} for i in range(num))
        return [Entity(str(i), "x", {"name": f"name{i}", **kind}) for i, kind in enumerate(kinds)]

    turn = Turn(id="d#0", dialogue="d", turn=0, domain="x", context=("food3 please",), response="many in the south")
    seen = []
    for num in (500, 5000):
        kb = town(num)
        index = ValueIndex(KnowledgeBase(kb))
        seen.append(len(index.candidates(index.values_in(turn.response, *turn.context))))
        assert pseudo_positive(turn, index) == plain_search(turn, list(range(num)), kb) == 3
    assert seen[0] == seen[1] <= 10
