from collections.abc import Sequence
from pathlib import Path

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity, Turn
from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.train.warm_start.examples import find_positives, warm_examples
from models.params.retriever import PicoEncoder, RetrieverParams, WarmStartParams

KB = KnowledgeBase(
    [
        Entity("a", "restaurant", {"name": "golden wok", "food": "chinese", "area": "north", "phone": "111"}),
        Entity("b", "restaurant", {"name": "rice house", "food": "chinese", "area": "centre", "phone": "222"}),
        Entity("c", "restaurant", {"name": "the gandhi", "food": "indian", "area": "centre", "phone": "333"}),
        Entity("d", "restaurant", {"name": "lotus", "food": "chinese", "area": "centre", "phone": "444"}),
    ]
)
INDEX = ValueIndex(KB)


def _turn(response: str, *context: str, kb: tuple[str, ...] = ()) -> Turn:
    return Turn("t#0", "t", 0, "restaurant", context or ("hi",), response, kb=kb)


def _positive(turn: Turn, *, recent: bool = True, session: Sequence[int] | None = None) -> str | None:
    found = find_positives(turn, INDEX, session=session, recent=recent)
    return KB[found[0]].id if found else None


@pytest.mark.parametrize(
    ("response", "context", "recent", "expected"),
    [
        ("golden wok is nice", ("rice house ?",), True, "a"),
        # Values alone: the latest entity the context names that has them, else the published choice.
        ("it serves chinese food", ("golden wok", "what of rice house ?"), True, "b"),
        ("it serves chinese food", ("rice house", "and golden wok ?"), True, "a"),
        ("it serves chinese food", ("rice house", "and the gandhi ?"), True, "b"),
        ("chinese in the centre", ("lotus , north chinese", "or rice house"), True, "b"),
        ("chinese in the centre", ("lotus chinese", "or golden wok"), True, "d"),
        ("call 333", ("rice house",), True, "c"),
        ("have a nice day", ("rice house",), True, None),
    ],
)
def test_positive(response: str, context: tuple[str, ...], recent: bool, expected: str | None) -> None:
    assert _positive(_turn(response, *context), recent=recent) == expected


def test_recency_decides_only_when_asked() -> None:
    turn = _turn("chinese in the centre", "rice house", "lotus ?")
    assert _positive(turn, recent=False) == "b"
    assert _positive(turn, recent=True) == "d"


def test_session_limits_the_choice() -> None:
    turn = _turn("chinese food", "rice house")
    assert _positive(turn, session=[0, 2]) == "a"
    assert _positive(turn, session=[2]) is None
    assert _positive(turn, session=[]) is None, "a dialogue without entities of its own speaks of none"


def test_every_entity_that_the_response_names_is_one() -> None:
    turn = _turn("rice house and gandhi are in the centre")
    assert {KB[row].id for row in find_positives(turn, INDEX, session=None, recent=True)} == {"b", "c"}
    assert find_positives(turn, INDEX, session=[2, 3], recent=True) == [2]


def test_shared_names_are_one_positive() -> None:
    chain = KnowledgeBase(
        [Entity(str(i), "restaurant", {"name": "pizza hut", "area": a}) for i, a in enumerate(("north", "south"))]
    )
    assert find_positives(_turn("pizza hut in the south"), ValueIndex(chain), session=None, recent=True) == [1]


def test_examples_keep_what_a_batch_needs() -> None:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    retriever = build_retriever(cfg, texts=["golden wok chinese north"], root=Path())
    turns = [_turn("thanks"), _turn("chinese , call 222", "north"), _turn("golden wok", "golden", "wok", kb=("c", "a", "c"))]
    examples = warm_examples(iter(turns), KB, index=INDEX, retriever=retriever, cfg=WarmStartParams())
    assert len(examples) == 2
    first, second = examples
    assert (first.positive, first.session, second.positive, second.session) == (1, [], 0, [])
    assert first.said == INDEX.values_in("chinese", "222").tolist()
    assert first.tokens == retriever.tokenise_contexts(["user north"])[0]
    assert examples.lengths.tolist() == [len(first.tokens), len(second.tokens)]
    condensed = warm_examples(iter(turns), KB, index=INDEX, retriever=retriever, cfg=WarmStartParams(), condensed=True)
    assert [(e.positive, e.session) for e in condensed] == [(0, [2, 0])], "the second turn has no knowledge base to learn from"
